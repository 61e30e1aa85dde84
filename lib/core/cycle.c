// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Calls that wait for each other: what becomes of a probe, and the report.
 */
#include "core/cycle.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* Nobody calls through so many by design: the rest is never looked at. */
#define PROBE_MAX	65536
#define PROBE_FEW	8

static inline struct probe *probe_of(struct signal *sig)
{
	return (struct probe *)sig->payload;
}

static struct signal *probe_new(struct scheduler *s, uint32_t hops)
{
	struct signal *sig = signal_new(s, SIGNAL_PROBE, probe_size(hops));

	if (sig)
		*probe_of(sig) = (struct probe){ .nr = 0 };
	return sig;
}

/* Takes sig. */
static void probe_send(struct scheduler *s, struct signal *sig, struct process *from, mote_pid to)
{
	uint32_t hops = probe_of(sig)->nr;

	if (unlikely(!port_is_here(to.node))) {
		if (hops > PROBE_FAR_MAX) {
			signal_free(s, sig);
			return;
		}
		sig->msg.size = (uint32_t)probe_size(hops);
	}
	sig->msg.from = process_pid(from);
	signal_send_pid(s, sig, to, false);
}

/* False: no memory, and nothing was done. */
static bool hop_add(struct scheduler *s, struct signal **sig, struct process *p, struct ref_slot *slot)
{
	struct probe *probe = probe_of(*sig);
	struct signal *larger;

	if (probe_size(probe->nr + 1) > (*sig)->msg.size) {
		larger = probe->nr < PROBE_MAX ? probe_new(s, 2 * probe->nr) : NULL;
		if (!larger)
			return false;
		memcpy(larger->payload, probe, (*sig)->msg.size);
		signal_free(s, *sig);
		*sig = larger;
		probe = probe_of(larger);
	}
	probe->hops[probe->nr++] = (struct hop){ process_pid(p), slot->id };
	return true;
}

void cycle_ask(struct scheduler *s, struct process *self, struct ref_slot *slot)
{
	struct signal *sig = probe_new(s, PROBE_FEW);

	/* Without memory the call ends at its deadline. */
	if (!sig)
		return;
	hop_add(s, &sig, self, slot);
	probe_send(s, sig, self, slot->target);
}

struct signal *cycle_ask_far(struct scheduler *s, mote_pid asker, uint64_t ref)
{
	struct signal *sig = probe_new(s, PROBE_FEW);

	if (!sig)
		return NULL;
	probe_of(sig)->hops[probe_of(sig)->nr++] = (struct hop){ asker, ref };
	sig->msg.from = asker;
	return sig;
}

bool cycle_probe_sane(const void *body, size_t size, mote_pid from)
{
	const struct probe *probe = body;
	const struct hop *last;

	if (size < probe_size(1) || !probe->nr || probe->nr > PROBE_FAR_MAX || size != probe_size(probe->nr) ||
	    probe->at > probe->nr)
		return false;
	last = &probe->hops[(probe->at ? probe->at : probe->nr) - 1];
	return mote_pid_equal(last->pid, from);
}

/* The call that p waits in, if only the callee can end it. What has come, or come free, is no wait any more. */
static struct ref_slot *call_of(struct process *p)
{
	struct ref_slot *slot = p->refs && p->refs->call ? &p->refs->slots[p->refs->call - 1] : NULL;

	/* Who ends may call again, in its cleanups, but does not wait for ever. */
	if (!slot || !slot->id || p->fatal || p->task.dying)
		return NULL;
	return (slot->flags & (REF_MONITOR | REF_WATCHED)) == REF_MONITOR ? slot : NULL;
}

static bool is_request_of(const struct signal *sig, const struct hop *hop)
{
	return sig->ref == hop->ref && mote_pid_equal(sig->msg.from, hop->pid) &&
	       (sig->kind == SIGNAL_REQUEST || sig->kind == SIGNAL_COUNTED_REQUEST || sig->kind == SIGNAL_FOREIGN_REQUEST);
}

/*
 * p alone can answer that call: its request is in p's hands, or waits in its mailbox. It may have been answered and
 * not be marked as such (p->vague). Who asked has the answer by then, before it sees a probe that was here; but not one
 * of another node, as nothing orders what comes from several.
 */
static bool request_here(const struct process *p, const struct hop *hop)
{
	const struct signal *sig;

	for (sig = p->held; sig && !is_request_of(sig, hop); sig = sig->next)
		;
	if (sig)
		return sig->held != HELD_PASSED && !(p->vague && !port_is_here(hop->pid.node));
	/* From the end: the latest is looked for most. */
	for (sig = p->last; sig && !is_request_of(sig, hop); sig = sig->prev)
		;
	return sig;
}

/*
 * The first time round. It may get into a circle that its sender is not part of. There it is noticed by whoever is
 * remembered: the one at the latest power of two, which in the end lies in that circle, with the whole of it ahead.
 */
static bool probe_follow(struct scheduler *s, struct process *p, struct ref_slot *slot, struct signal *sig)
{
	struct probe *probe = probe_of(sig);
	uint32_t remembered = UINT32_C(1) << (31 - __builtin_clz(probe->nr));

	if (mote_pid_equal(probe->hops[0].pid, process_pid(p))) {
		if (probe->hops[0].ref != slot->id || !request_here(p, &probe->hops[probe->nr - 1]))
			return false;
		/* Without a token none is told. */
		if (getrandom(&probe->token, sizeof(probe->token), GRND_NONBLOCK) != sizeof(probe->token))
			return false;
		p->refs->asked = slot->id;
		p->refs->token = probe->token;
		probe->at = 1;
		probe_send(s, sig, p, slot->target);
		return true;
	}
	if (mote_pid_equal(probe->hops[remembered - 1].pid, process_pid(p)) ||
	    (port_is_here(slot->target.node) && !callee_calls(slot->target)) || !hop_add(s, &sig, p, slot))
		return false;
	probe_send(s, sig, p, slot->target);
	return true;
}

static bool probe_confirm(struct scheduler *s, struct process *p, struct ref_slot *slot, struct signal *sig)
{
	struct probe *probe = probe_of(sig);
	const struct hop *hop = &probe->hops[probe->at % probe->nr];

	if (!mote_pid_equal(hop->pid, process_pid(p)) || hop->ref != slot->id)
		return false;
	if (!request_here(p, &probe->hops[probe->at - 1]))
		return false;
	if (probe->at < probe->nr) {
		probe->at++;
		probe_send(s, sig, p, slot->target);
		return true;
	}
	/* Other nodes may say what they like: but not that this one has asked. */
	if (p->refs->asked != slot->id || p->refs->token != probe->token)
		return false;
	/* The sender is the only one that is told: its call ends, and that frees all the others. */
	sig->kind = SIGNAL_REPLY;
	sig->ref = slot->id;
	sig->ref_slot = (uint32_t)(slot - p->refs->slots);
	sig->msg.type = MOTE_MSG_CYCLE;
	if (!ref_accept(s, p, sig))
		return false;
	mailbox_append(p, sig);
	return true;
}

void cycle_probe(struct scheduler *s, struct process *p, struct signal *sig)
{
	struct ref_slot *slot = call_of(p);

	if (!slot || !(probe_of(sig)->at ? probe_confirm(s, p, slot, sig) : probe_follow(s, p, slot, sig)))
		signal_free(s, sig);
}

struct name_wanted {
	mote_pid pid;
	char *to;
};

static bool name_of(const char *name, mote_pid pid, void *arg)
{
	struct name_wanted *wanted = arg;

	if (!mote_pid_equal(pid, wanted->pid))
		return true;
	snprintf(wanted->to, 64, "%s", name);
	return false;
}

/* "<0.5.1> name", or what it is labelled. */
static size_t process_name(mote_pid pid, char *text, size_t size)
{
	struct process *p = process_lookup(pid);
	/* acquire: pairs with process_extra() */
	struct extra *extra = p ? atomic_load_explicit(&p->extra, memory_order_acquire) : NULL;
	const char *label = extra ? atomic_load_explicit(&extra->label, memory_order_relaxed) : NULL;
	char name[64] = "";

	if (p && atomic_load_explicit(&p->named, memory_order_relaxed))
		names_each(name_of, &(struct name_wanted){ pid, name });
	if (!name[0] && label)
		snprintf(name, sizeof(name), "%s", label);
	return (size_t)snprintf(text, size, MOTE_PID_FMT "%s%s", MOTE_PID_ARG(pid), name[0] ? " " : "", name);
}

/* Long ones are shown by their beginning: the rest is had from mote_call_cycle(). */
static void cycle_log(const struct probe *probe)
{
	static const char more[] = " calls ... calls ";
	char text[1000], one[128];
	size_t used = 0, n, last;

	last = process_name(probe->hops[0].pid, one, sizeof(one));
	for (uint32_t i = 0; i < probe->nr; i++) {
		n = process_name(probe->hops[i].pid, one, sizeof(one));
		if (used + n + last + sizeof(more) + sizeof(" calls ") > sizeof(text)) {
			used += (size_t)sprintf(text + used, "...");
			used += (size_t)sprintf(text + used, " calls ");
			break;
		}
		used += (size_t)sprintf(text + used, "%s calls ", one);
	}
	process_name(probe->hops[0].pid, text + used, sizeof(text) - used);
	runtime_log(MOTE_LOG_ERROR, "deadlock: %s", text);
}

static void cycle_keep(struct scheduler *s, struct process *self, struct signal *sig)
{
	struct extra *extra = process_extra(self);

	if (!extra) {
		signal_free(s, sig);
		return;
	}
	if (extra->cycle)
		signal_free(s, extra->cycle);
	extra->cycle = sig;
}

void cycle_report(struct scheduler *s, struct process *self, struct mote_msg *m)
{
	struct signal *sig = container_of(m, struct signal, msg);

	held_remove(self, sig);
	cycle_keep(s, self, sig);
	if (runtime_logs())
		cycle_log(probe_of(sig));
}

void cycle_own(struct scheduler *s, struct process *self)
{
	struct signal *sig = probe_new(s, 1);

	if (!sig)
		return;
	probe_of(sig)->hops[probe_of(sig)->nr++] = (struct hop){ .pid = process_pid(self) };
	cycle_keep(s, self, sig);
}

void cycle_end(struct scheduler *s, struct extra *extra)
{
	if (extra->cycle)
		signal_free(s, extra->cycle);
	extra->cycle = NULL;
}

size_t mote_call_cycle(mote_pid *path, size_t max)
{
	struct process *p = process_caller();
	struct extra *extra = p ? atomic_load_explicit(&p->extra, memory_order_relaxed) : NULL;
	const struct probe *probe = extra && extra->cycle ? probe_of(extra->cycle) : NULL;

	for (size_t i = 0; probe && i < probe->nr && i < max; i++)
		path[i] = probe->hops[i].pid;
	return probe ? probe->nr : 0;
}

void mote_from_pass(struct mote_from from)
{
	struct process *p = process_caller();
	struct hop hop = { from.pid, from.ref.id };
	struct signal *sig = p ? p->held : NULL;

	while (sig && !is_request_of(sig, &hop))
		sig = sig->next;
	if (sig)
		sig->held = HELD_PASSED;
}
