/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Publish and subscribe. With its first subscription a connection gets a second process, the pusher: from then on that
 * one alone writes to the socket, in the order in which things come to it, while the connection goes on reading. The
 * broker knows who has subscribed to what, and how much of what it sent each pusher has not got rid of yet.
 */
#include "kv.h"

struct subscriber {
	struct subscriber *next;
	mote_pid pusher;
	mote_ref ref;			/* a monitor of it */
	size_t backlog;			/* bytes */
	struct arg *channels;
	uint32_t n, room;
	int resp;
};

struct broker {
	struct subscriber *all;
};

struct subscribe {			/* KV_SUBSCRIBE: then the channel's name; bare: all there are */
	mote_pid pusher;
	int resp;
	bool add, bare;
};

struct confirmed {			/* KV_CONFIRM, from the broker: the pusher answers for it */
	struct mote_from from;
	uint32_t n;
};

static void push(struct subscriber *who, const struct out *o)
{
	who->backlog += o->len;
	if (who->backlog > BACKLOG_MAX)
		mote_exit_pid(who->pusher, MOTE_REASON_SHUTDOWN);	/* the connection, linked, goes with it */
	else
		mote_send(who->pusher, KV_PUSH, o->data, o->len);
}

static void confirm(struct subscriber *who, const char *verb, const struct arg *name)
{
	struct out o = { 0 };

	out_number(&o, who->resp == 3 ? '>' : '*', 3);
	out_bulk(&o, verb, strlen(verb));
	if (name)
		out_bulk(&o, name->p, name->len);
	else
		out_text(&o, who->resp == 3 ? "_\r\n" : "$-1\r\n");
	out_number(&o, ':', who->n);
	push(who, &o);
	out_drop(&o);
}

static struct subscriber *subscriber_of(struct broker *b, const struct subscribe *sub)
{
	struct subscriber *who = b->all;

	while (who && !mote_pid_equal(who->pusher, sub->pusher))
		who = who->next;
	if (!who) {
		who = kv_realloc(NULL, sizeof(*who));
		*who = (struct subscriber){ .next = b->all, .pusher = sub->pusher, .ref = mote_monitor(sub->pusher) };
		b->all = who;
	}
	who->resp = sub->resp;
	return who;
}

static uint32_t find(struct subscriber *who, const struct arg *name)
{
	uint32_t i = 0;

	while (i < who->n && (who->channels[i].len != name->len || memcmp(who->channels[i].p, name->p, name->len)))
		i++;
	return i;
}

static void subscribe(struct subscriber *who, const struct arg *name)
{
	if (find(who, name) == who->n) {
		if (who->n == who->room) {
			who->room = who->room * 2 + 4;
			who->channels = kv_realloc(who->channels, who->room * sizeof(*who->channels));
		}
		who->channels[who->n] = (struct arg){ kv_realloc(NULL, name->len + 1), name->len };
		memcpy(who->channels[who->n++].p, name->p, name->len);
	}
	confirm(who, "subscribe", name);
}

static void unsubscribe(struct subscriber *who, const struct arg *name)
{
	uint32_t i = find(who, name);
	char *p = NULL;

	if (i < who->n) {
		p = who->channels[i].p;
		who->channels[i] = who->channels[--who->n];
	}
	confirm(who, "unsubscribe", name);
	mote_free(p);
}

/* KV_PUBLISH: the length of the channel's name, the name, the text. */
static int64_t publish(struct broker *b, const struct mote_msg *m)
{
	struct arg name = { (char *)m->data + sizeof(name.len), *(uint32_t *)m->data };
	const char *text = name.p + name.len;
	struct out o[2] = { 0 };		/* for RESP2 and RESP3 */
	int64_t n = 0;

	for (struct subscriber *who = b->all; who; who = who->next) {
		int three = who->resp == 3;

		if (find(who, &name) == who->n)
			continue;
		if (!o[three].len) {
			out_text(&o[three], three ? ">3\r\n$7\r\nmessage\r\n" : "*3\r\n$7\r\nmessage\r\n");
			out_bulk(&o[three], name.p, name.len);
			out_bulk(&o[three], text, (char *)m->data + m->size - text);
		}
		push(who, &o[three]);
		n++;
	}
	out_drop(&o[0]);
	out_drop(&o[1]);
	return n;
}

static int broker_init(void *state, void *arg)
{
	(void)state, (void)arg;
	return 0;
}

static void broker_call(void *state, struct mote_from from, const struct mote_msg *m)
{
	const struct subscribe *sub = m->data;
	struct arg name = { (char *)(sub + 1), m->size - sizeof(*sub) };
	struct subscriber *who;

	if (m->type == KV_PUBLISH) {
		int64_t n = publish(state, m);

		mote_reply(from, KV_PUBLISH, &n, sizeof(n));
		return;
	}
	who = subscriber_of(state, sub);
	if (sub->add)
		subscribe(who, &name);
	else if (!sub->bare)
		unsubscribe(who, &name);
	else if (!who->n)
		confirm(who, "unsubscribe", NULL);
	while (sub->bare && who->n)
		unsubscribe(who, &(struct arg){ who->channels->p, who->channels->len });
	/* By way of the pusher, so that what the connection says next comes behind the confirmation. */
	mote_send(who->pusher, KV_CONFIRM, &(struct confirmed){ from, who->n }, sizeof(struct confirmed));
}

static void broker_info(void *state, const struct mote_msg *m)
{
	const struct mote_down_info *down = mote_msg_down(m);
	struct broker *b = state;

	for (struct subscriber **link = &b->all, *who; (who = *link); link = &who->next) {
		if (m->type == KV_ACK && mote_pid_equal(who->pusher, m->from)) {
			who->backlog -= *(size_t *)m->data;
			return;
		}
		if (down && mote_ref_equal(who->ref, down->ref)) {
			*link = who->next;
			while (who->n)
				mote_free(who->channels[--who->n].p);
			mote_free(who->channels);
			mote_free(who);
			return;
		}
	}
}

const struct mote_server_ops broker_ops = {
	.size = sizeof(struct mote_server_ops),
	.state_size = sizeof(struct broker),
	.init = broker_init,
	.handle_call = broker_call,
	.handle_info = broker_info,
};

static void pusher_main(void *arg)
{
	int fd = (intptr_t)arg;

	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		struct mote_from from = mote_msg_from(m);
		size_t size = m->size;
		ssize_t err = 0;

		if (m->type == KV_CONFIRM) {
			const struct confirmed *confirmed = m->data;

			mote_reply(confirmed->from, KV_CONFIRM, &confirmed->n, sizeof(confirmed->n));
			mote_msg_free(m);
		} else if (from.ref.id) {	/* the connection's own: it goes on when this is on its way */
			err = mote_net_send(fd, m->data, size, MOTE_FOREVER);
			mote_msg_free(m);
			mote_reply(from, KV_PUSH, NULL, 0);
		} else {
			err = mote_net_send_msg(fd, m, MOTE_FOREVER);
			mote_send(kv.broker, KV_ACK, &size, sizeof(size));
		}
		if (err < 0)
			mote_exit(MOTE_REASON_SHUTDOWN);
	}
}

/* SUBSCRIBE (how: 1), and UNSUBSCRIBE, also as a part of RESET. */
void conn_subscribe(struct conn *c, struct arg *argv)
{
	struct subscribe sub = { .resp = c->batch.resp, .add = c->cmd->how, .bare = c->argc == 1 };
	struct mote_msg *m;

	conn_flush(c);
	if (!mote_pid_valid(c->pusher))
		c->pusher = mote_spawn_link(pusher_main, (void *)(intptr_t)c->fd);
	sub.pusher = c->pusher;
	for (int i = 1; i < c->argc || (i == 1 && sub.bare); i++) {
		struct out o = { 0 };

		out_put(&o, &sub, sizeof(sub));
		if (!sub.bare)
			out_put(&o, argv[i].p, argv[i].len);
		m = conn_ask(kv.broker, &o, KV_SUBSCRIBE);
		c->subscriptions = *(uint32_t *)m->data;
		mote_msg_free(m);
	}
}

void conn_publish(struct conn *c, struct arg *argv)
{
	struct mote_msg *m;
	struct out o = { 0 };

	out_put(&o, &argv[1].len, sizeof(argv->len));
	out_put(&o, argv[1].p, argv[1].len);
	out_put(&o, argv[2].p, argv[2].len);
	m = conn_ask(kv.broker, &o, KV_PUBLISH);
	out_number(&c->out, ':', *(int64_t *)m->data);
	mote_msg_free(m);
}
