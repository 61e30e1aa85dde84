/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The writer owns the append-only file: commands as a client would send them, in the order in which each shard has run
 * them. All logs that have come are written at once and, with `always`, synced at once; only then the replies that
 * came with them go to their connections. After a failed write the logs are kept (the shards have done what they
 * say) and tried again; what waits for them gets an error, and the shards refuse writes until it works. After a
 * failed sync nobody knows what is in the file: the server ends. The format is Redis's: redis-server loads the file
 * (since 7 it first moves it into its appendonlydir), and kv loads one of redis-server's that has no RDB preamble.
 *
 * A rewrite makes a new file beside the old one. Each shard sends its contents in parts, one at a time; from the first
 * part on its logs are written to both files. When all have come the new file is synced and takes the old one's name.
 */
#include "shard.h"

#include <stdio.h>
#include <sys/file.h>

#define GROUP_MAX	1024		/* logs, as many as one write can have pieces */
#define GROUP_BYTES	(4u << 20)
#define REWRITE_MIN	(64 << 20)	/* a file that has doubled since the last rewrite, and is larger, gets one */

struct writer {
	int fd;
	char new_file[sizeof(kv.file) + 8];
	int64_t size, base;
	struct mote_msg **group;	/* KV_LOGs to be written */
	uint32_t n, room;
	size_t bytes;
	mote_pid syncer, shard[SHARDS_MAX];
	int syncing;			/* syncs under way */
	bool dirty;			/* written since the last sync began */
	uint32_t fsync;			/* the policy with the latest log */

	int new_fd;			/* of a rewrite; -1: none is under way */
	uint32_t rewrite;		/* which one it is */
	int64_t new_size;
	bool begun[SHARDS_MAX];
	int left;			/* shards that have not sent their last part */
};

struct sync {
	int fd, err;
};

static void syncer_info(void *state, const struct mote_msg *m)
{
	struct sync sync = *(struct sync *)m->data;

	(void)state;
	sync.err = mote_file_sync(sync.fd, true);
	mote_send(m->from, KV_SYNC, &sync, sizeof(sync));
}

static const struct mote_handler_ops syncer_ops = { .size = sizeof(struct mote_handler_ops), .info = syncer_info };

_Noreturn void writer_die(const char *what, int err)
{
	kv_log("%s '%s': %s", what, kv.file, strerror(-err));
	mote_exit(mote_reason_error(-err, what));
}

static void sync_directory(void)
{
	int fd = mote_file_open(".", O_RDONLY | O_DIRECTORY, 0), err = fd < 0 ? fd : mote_file_sync(fd, false);

	if (err)
		writer_die("can't sync the directory of", err);
	mote_fd_close(fd);
}

static void start_sync(struct writer *w, int fd)
{
	w->syncing++;
	mote_send(w->syncer, KV_SYNC, &(struct sync){ fd, 0 }, sizeof(struct sync));
}

static struct log_tail tail_of(const struct mote_msg *m)
{
	struct log_tail tail;

	memcpy(&tail, (char *)m->data + m->size - sizeof(tail), sizeof(tail));
	return tail;
}

/* Nothing of a batch is acknowledged if what it changed did not make it. The log stays, with nobody waiting for it. */
static void refuse(struct mote_msg *m)
{
	struct log_tail tail = tail_of(m);
	struct out o = { 0 };
	char error[128];
	uint32_t n;

	memcpy(&n, (char *)m->data + tail.reply - sizeof(n), sizeof(n));
	snprintf(error, sizeof(error), MISCONF, strerror(kv.write_error));
	if (tail.log)
		shard_reply_errors(&o, n, error);
	else
		out_put(&o, m->data, tail.reply);
	mote_send_msg(tail.client, out_take(&o, KV_REPLY + tail.shard));
	tail.client = MOTE_NOBODY;
	memcpy((char *)m->data + m->size - sizeof(tail), &tail, sizeof(tail));
}

/* Writes the group's logs (to the new file: with what is before them) at an offset; returns bytes or -errno. */
static int64_t write_group(struct writer *w, int fd, int64_t at, bool new)
{
	struct iovec iov[64];
	int64_t start = at;
	ssize_t r;
	int n = 0;

	for (uint32_t i = 0; i < w->n; i++) {
		struct log_tail tail = tail_of(w->group[i]);
		size_t skip = tail.reply + (new ? 0 : tail.before), len = tail.log + (new ? tail.before : 0);

		if (len && (!new || w->begun[tail.shard]))
			iov[n++] = (struct iovec){ (char *)w->group[i]->data + skip, len };
		if (n && (n == 64 || i + 1 == w->n)) {
			r = mote_file_writev(fd, iov, n, at, MOTE_FOREVER);
			if (r < 0)
				return r;
			while (n)
				at += iov[--n].iov_len;
		}
	}
	return at - start;
}

static void order(struct writer *w, uint32_t shard, int what)
{
	mote_send(w->shard[shard], KV_SNAPSHOT, &(struct snapshot){ w->rewrite, shard, what }, sizeof(struct snapshot));
}

static void rewrite_stop(struct writer *w, const char *why, int err)
{
	kv_log("rewrite failed: %s: %s", why, strerror(-err));
	mote_fd_close(w->new_fd);
	mote_file_unlink(w->new_file);
	w->new_fd = -1;
	for (int s = 0; s < kv.shards; s++)
		order(w, kv.first + s, SNAPSHOT_STOP);
}

static void commit(struct writer *w)
{
	int64_t n = write_group(w, w->fd, w->size, false);
	int err = n < 0 ? -n : 0;
	bool always = false;

	if (err != kv.write_error) {
		kv_log(err ? "can't write '%s': %s; refusing writes" : "'%s' can be written again", kv.file, strerror(err));
		kv.write_error = err;
	}
	if (err) {
		mote_file_truncate(w->fd, w->size);
	} else if (n) {
		w->size += n;
		w->dirty = true;
		for (uint32_t i = 0; i < w->n; i++) {
			w->fsync = tail_of(w->group[i]).fsync;
			always |= w->fsync == FSYNC_ALWAYS;
		}
		if (always) {
			err = mote_file_sync(w->fd, true);
			if (err)
				writer_die("can't sync", err);
			w->dirty = false;
		}
	}
	if (err) {
		for (uint32_t i = 0; i < w->n; i++)
			if (mote_pid_valid(tail_of(w->group[i]).client))
				refuse(w->group[i]);
		/* What is kept here must not get behind a part of a snapshot that has it already. */
		if (w->new_fd >= 0)
			rewrite_stop(w, "the old file can't be written", -err);
		return;
	}
	if (w->new_fd >= 0) {
		n = write_group(w, w->new_fd, w->new_size, true);
		if (n < 0)
			rewrite_stop(w, "write", n);
		else
			w->new_size += n;
	}
	for (uint32_t i = 0; i < w->n; i++) {
		struct mote_msg *m = w->group[i];
		struct log_tail tail = tail_of(m);

		kv.logged[tail.shard]++;
		if (mote_pid_valid(tail.client)) {
			m->type = KV_REPLY + tail.shard;
			m->size = tail.reply;
			mote_send_msg(tail.client, m);
		} else {
			mote_msg_free(m);
		}
	}
	w->n = w->bytes = 0;
}

static int rewrite_start(struct writer *w)
{
	if (w->new_fd >= 0 || kv.write_error)
		return kv.write_error ? -kv.write_error : -EBUSY;
	w->new_fd = mote_file_open(w->new_file, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (w->new_fd >= 0 && flock(w->new_fd, LOCK_EX | LOCK_NB)) {
		mote_fd_close(w->new_fd);
		w->new_fd = -errno;
	}
	if (w->new_fd < 0)
		return w->new_fd;		/* negative like -1: none is under way */
	w->new_size = 0;
	w->left = kv.shards;
	memset(w->begun, 0, sizeof(w->begun));
	w->rewrite++;
	order(w, kv.first, SNAPSHOT_BEGIN);
	return 0;
}

static void rewrite_part(struct writer *w, const struct mote_msg *m)
{
	const struct snapshot *part = m->data;
	ssize_t n = m->size - sizeof(*part), err;

	if (w->new_fd < 0 || part->rewrite != w->rewrite)
		return;
	err = mote_file_write(w->new_fd, part + 1, n, w->new_size, MOTE_FOREVER);
	if (err < 0) {
		rewrite_stop(w, "write", err);
		return;
	}
	w->new_size += n;
	w->begun[part->shard] = true;
	if (part->what != SNAPSHOT_LAST)
		order(w, part->shard, SNAPSHOT_NEXT);
	else if (--w->left)
		order(w, part->shard + 1, SNAPSHOT_BEGIN);
	else
		start_sync(w, w->new_fd);
}

/* Most of the new file is on the disk by now: the second sync is short. */
static void rewrite_end(struct writer *w)
{
	int err = mote_file_sync(w->new_fd, false);

	if (!err)
		err = mote_file_rename(w->new_file, kv.file);
	if (err) {
		rewrite_stop(w, "sync or rename", err);
		return;
	}
	sync_directory();
	mote_fd_close(w->fd);
	kv_log("rewritten: %lld bytes instead of %lld", (long long)w->new_size, (long long)w->size);
	w->fd = w->new_fd;
	w->size = w->base = w->new_size;
	w->new_fd = -1;
}

static void synced(struct writer *w, const struct mote_msg *m)
{
	const struct sync *sync = m->data;

	w->syncing--;
	if (sync->fd == w->fd && sync->err)
		writer_die("can't sync", sync->err);
	if (sync->fd == w->new_fd && sync->err)
		rewrite_stop(w, "sync", sync->err);
	else if (w->new_fd >= 0 && !w->left && !w->syncing)
		rewrite_end(w);
}

/* Once a second. A sync that takes longer is waited for, so that not more than two seconds are at risk. */
static void tick(struct writer *w)
{
	struct mote_msg *m;

	while (w->syncing && w->dirty && w->fsync == FSYNC_EVERYSEC && w->new_fd < 0) {
		m = mote_receive_type(KV_SYNC, MOTE_FOREVER);
		synced(w, m);
		mote_msg_free(m);
	}
	/* While a rewrite is synced others don't queue up behind: it could not end. */
	if (w->fsync == FSYNC_EVERYSEC && w->dirty && !w->syncing) {
		w->dirty = false;
		start_sync(w, w->fd);
	}
	if (w->new_fd < 0 && w->size > REWRITE_MIN && w->size > 2 * w->base)
		rewrite_start(w);
}

/* A shard starts, perhaps in the place of one that died: all logs of that one have come before this. */
static void cut(struct writer *w, const struct mote_msg *m)
{
	struct cut cut = { .fd = mote_file_open(kv.file, O_RDONLY, 0), .size = w->size };
	uint32_t shard = *(uint32_t *)m->data;
	struct out o = { 0 };

	if (cut.fd < 0) {
		mote_reply(mote_msg_from(m), KV_CUT, &cut, sizeof(cut));
		return;
	}
	mote_fd_give(cut.fd, m->from);
	out_put(&o, &cut, sizeof(cut));
	for (uint32_t i = 0; i < w->n; i++) {
		struct log_tail tail = tail_of(w->group[i]);

		if (tail.shard == shard) {
			out_put(&o, (char *)w->group[i]->data + tail.reply + tail.before, tail.log);
			((struct cut *)o.data)->unwritten++;
		}
	}
	kv.logged[shard] = 0;
	w->shard[shard] = m->from;
	mote_reply_msg(mote_msg_from(m), out_take(&o, KV_CUT));
	/* It was this one's turn. What the new file has of it already does no harm: all that changed since is there, too. */
	if (w->new_fd >= 0 && w->left && kv.first + kv.shards - w->left == (int)shard)
		order(w, shard, SNAPSHOT_BEGIN);
}

static void handle(struct writer *w, struct mote_msg *m)
{
	int64_t answer = 0;

	switch (m->type) {
	case KV_CHUNK:
		rewrite_part(w, m);
		break;
	case KV_SYNC:
		synced(w, m);
		break;
	case KV_TICK:
		tick(w);
		break;
	case KV_REWRITE:
		answer = rewrite_start(w);
		mote_reply(mote_msg_from(m), KV_REWRITE, &answer, sizeof(answer));
		break;
	case KV_CUT:
		cut(w, m);
		break;
	case KV_SETTLE:
		mote_reply(mote_msg_from(m), KV_SETTLE, NULL, 0);
		break;
	case MOTE_MSG_EXIT:
		mote_file_sync(w->fd, true);
		mote_exit(mote_msg_exit(m)->reason);
	}
	mote_msg_free(m);
}

static bool only_zeros(const char *p, size_t n)
{
	return !n || (!*p && !memcmp(p, p + 1, n - 1));
}

/* A part of a command at the end was never acknowledged, and is cut off; so are zeros, which some file systems leave
 * after a power cut. Anything else that is no command is damage, and for a person to look at. */
static void check_file(struct writer *w)
{
	struct replay r = { .in.error = "" };
	int err;

	replay_file(&r, w->fd, INT64_MAX);
	w->size = w->base = r.in.offset + r.in.start;
	if (*r.in.error && !only_zeros(r.in.buf + r.in.start, r.in.len - r.in.start)) {
		kv_log("'%s' is damaged at offset %lld (%s): not loaded", kv.file, (long long)w->size, r.in.error);
		mote_exit(mote_reason_error(EBADMSG, "the append-only file is damaged"));
	}
	if (w->size != r.size) {
		kv_log("'%s' ends in the middle of a command: cut from %lld to %lld bytes", kv.file,
		       (long long)r.size, (long long)w->size);
		err = mote_file_truncate(w->fd, w->size);
		if (!err)
			err = mote_file_sync(w->fd, false);
		if (err)
			writer_die("can't cut", err);
	}
	kv_log("'%s' has %lld commands in %lld bytes", kv.file, (long long)r.commands, (long long)w->size);
	mote_free(r.in.buf);
	mote_free(r.in.args);
}

/*
 * Locked: by the time that a killed server's successor starts its last write may still be under way in the kernel, and its
 * nodes may not have noticed. A file that was renamed over meanwhile is not the one.
 */
static int open_file(void)
{
	mote_deadline patience = mote_in_ms(10000);
	struct stat mine, there;

	for (;;) {
		int fd = mote_file_open(kv.file, O_RDWR | O_CREAT, 0644), err;

		if (fd < 0)
			return fd;
		if (!flock(fd, LOCK_EX | LOCK_NB) && !fstat(fd, &mine) && !stat(kv.file, &there) &&
		    mine.st_ino == there.st_ino)
			return fd;
		err = -errno;
		mote_fd_close(fd);
		if (mote_now().ns > patience.ns)
			return err;
		mote_sleep(mote_in_ms(5));
	}
}

void writer_main(void *arg)
{
	struct mote_spawn_opts opts = { .size = sizeof(opts), .handler = &syncer_ops, .flags = MOTE_LINK, .label = "syncer" };
	struct writer *w = mote_zalloc(sizeof(*w));
	struct mote_msg *m;

	(void)arg;
	if (!w)
		return;
	mote_trap_exit(true);
	w->new_fd = -1;
	snprintf(w->new_file, sizeof(w->new_file), "%s.tmp", kv.file);
	w->fd = open_file();
	if (w->fd < 0)
		writer_die("can't open", w->fd);
	sync_directory();
	check_file(w);
	w->syncer = mote_spawn_opts(&opts);
	mote_send_every(1000000000, mote_self(), KV_TICK, NULL, 0);
	for (;;) {
		m = mote_receive(!w->n ? MOTE_FOREVER : kv.write_error ? mote_in_ms(100) : MOTE_NOW);
		if (m && m->type == KV_LOG) {
			if (w->n == w->room) {
				w->room = w->room * 2 + 64;
				w->group = kv_realloc(w->group, w->room * sizeof(*w->group));
			}
			w->group[w->n++] = m;
			w->bytes += m->size;
			if (w->n < GROUP_MAX && w->bytes < GROUP_BYTES && !kv.write_error)
				continue;
			m = NULL;
		}
		if (w->n)
			commit(w);
		if (m)
			handle(w, m);
	}
}
