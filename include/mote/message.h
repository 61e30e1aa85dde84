/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/message.h: messages. Those of one sender to one receiver arrive in the order sent.
 */
#ifndef MOTE_MESSAGE_H
#define MOTE_MESSAGE_H

#include <mote/base.h>
#include <mote/process.h>

MOTE_BEGIN_DECLS

/*
 * A message as its receiver gets it. `data` is `size` bytes, aligned to 16, the receiver's to read and write
 * until mote_msg_free(). type: below MOTE_MSG_RESERVED it is the sender's choice.
 */
struct mote_msg {
	mote_pid from;		/* MOTE_NOBODY: a foreign thread, or the runtime */
	uint32_t type;
	uint32_t size;
	void *data;
};

#define MOTE_MSG_RESERVED	0x80000000u
#define MOTE_MSG_EXIT		0x80000001u	/* data: struct mote_exit_info */
#define MOTE_MSG_DOWN		0x80000002u	/* data: struct mote_down_info */
#define MOTE_MSG_OS_SIGNAL	0x80000003u	/* data: struct mote_os_signal (mote/os.h) */

/* An exit signal that was trapped; from: who ended, or who called mote_exit_pid. */
struct mote_exit_info {
	mote_pid pid;
	struct mote_reason reason;
};

struct mote_down_info {
	mote_ref ref;
	mote_pid pid;
	struct mote_reason reason;
};

/* The contents of an EXIT or DOWN message; NULL if m is none. They live as long as m. Any thread. */
MOTE_API const struct mote_exit_info *mote_msg_exit(const struct mote_msg *m);
MOTE_API const struct mote_down_info *mote_msg_down(const struct mote_msg *m);

/* The reference that a DOWN, a reply, or a message to an alias carries; id 0: none. Any thread. */
MOTE_API mote_ref mote_msg_ref(const struct mote_msg *m);

/*
 * Sends a copy of size bytes (at most 4 GiB - 1; data may be NULL if size is 0; borrows). 0, also when the
 * receiver is dead: the message vanishes. -EINVAL (a reserved type), -EMSGSIZE, -ENOMEM; and what a limit of
 * the receiver's makes of it, below. Any thread. May yield.
 */
MOTE_API int mote_send(mote_pid to, uint32_t type, const void *data, size_t size);

/*
 * A mailbox may have a limit (struct mote_spawn_opts.mailbox_limit). While it is full, mote_send waits for room,
 * mote_send_until until the deadline; a receiver that dies meanwhile ends the wait: 0. Errors, and the message
 * was not sent: -ETIMEDOUT; -ENOBUFS (MOTE_MAILBOX_DROP); -EDEADLK (the caller's own mailbox); -EAGAIN (a foreign
 * thread: it never waits); -ECANCELED (in a cleanup). To all others mote_send_until is mote_send. Any thread.
 */
MOTE_API int mote_send_until(mote_pid to, uint32_t type, const void *data, size_t size, mote_deadline deadline);

/* To whoever is registered under name now; -ESRCH: nobody. Otherwise like mote_send. Any thread. */
MOTE_API int mote_send_name(const char *name, uint32_t type, const void *data, size_t size);

/* To an alias. Passes by its owner's limit. Otherwise like mote_send. Any thread. */
MOTE_API int mote_send_alias(mote_ref alias, uint32_t type, const void *data, size_t size);

/*
 * A message with room for size bytes, to be filled in and sent without a copy. Gives; NULL: -ENOMEM,
 * -EMSGSIZE, -EINVAL (a reserved type). Any thread.
 */
MOTE_API struct mote_msg *mote_msg_new(uint32_t type, size_t size);

/*
 * Sends m itself. A message received may be sent on (its type and data may be changed, its size only made
 * smaller). mote_send_msg takes m, also when it fails: a message that was refused is freed. mote_send_msg_until
 * takes m only when it returns 0, or -ENOMEM; otherwise m is still the caller's, to be sent again. 0, -EINVAL
 * (reserved type), -EMSGSIZE (grown), -ENOMEM (an unanswered request was sent on), or what a limit makes of it,
 * as above. Any thread.
 */
MOTE_API int mote_send_msg(mote_pid to, struct mote_msg *m);
MOTE_API int mote_send_msg_until(mote_pid to, struct mote_msg *m, mote_deadline deadline);

/* Takes m; NULL is fine. Any thread. */
MOTE_API void mote_msg_free(struct mote_msg *m);

/* In a server's callback: takes over the message it was lent; NULL if that was done already. */
MOTE_API struct mote_msg *mote_msg_keep(const struct mote_msg *m);

/*
 * Receives, in arrival order, waiting until the deadline: the first message; the first of a type; the first
 * that match accepts (called with messages that stay in the mailbox; it may call mote, but not receive: that
 * ends the program); the one for a reference of the caller's, in O(1) whatever else is queued: the DOWN of a
 * monitor, the reply to a call or alias. What does not match stays queued. Gives; NULL with mote_errno() -ETIMEDOUT, or -EINVAL when the
 * reference is not (any more) the caller's, or -ECANCELED in a cleanup. Follows Erlang's receive ... after.
 */
MOTE_API struct mote_msg *mote_receive(mote_deadline deadline);
MOTE_API struct mote_msg *mote_receive_type(uint32_t type, mote_deadline deadline);
MOTE_API struct mote_msg *mote_receive_match(bool (*match)(const struct mote_msg *m, void *arg), void *arg,
					     mote_deadline deadline);
MOTE_API struct mote_msg *mote_receive_ref(mote_ref ref, mote_deadline deadline);

/*
 * Asks a server (or a process that answers with mote_reply) and waits. On success *reply (may be NULL) is
 * given and 0 returned. Errors: -ETIMEDOUT (a late answer vanishes), -ESRCH (there is no such process),
 * -EPIPE (it ended before it answered), -ECONNRESET (its node is gone, or can't be reached: whether it acted on the
 * request is not known), -EINVAL, -EMSGSIZE, -ENOMEM, -EDEADLK (oneself, or a circle: below), -ECANCELED. A receiver's
 * limit counts requests: room is waited for within the deadline (BLOCK), or -ENOBUFS (DROP), or -EPIPE (KILL).
 * Unlike gen_server:call it does not end the caller. Copies size bytes of data.
 *
 * If the receiver waits in a mote_call, too, for one that waits, and so on, for the caller, whom none of them can get an
 * answer from, then that is said at once, whatever the deadlines: -EDEADLK, an error line in the log, and the circle by
 * mote_call_cycle(). The request is withdrawn like at a deadline, and the others wait on: for the caller. A process is
 * waited for as long as it has the request in its mailbox, or received and neither answered nor freed.
 */
MOTE_API int mote_call(mote_pid to, uint32_t type, const void *data, size_t size, struct mote_msg **reply,
		       mote_deadline deadline);

/*
 * The circle that the caller's latest -EDEADLK of a mote_call was: the caller, whom it called, and so on; the last one
 * called the caller. Fills in at most max pids, and returns how many they are; 0: there was none.
 */
MOTE_API size_t mote_call_cycle(mote_pid *path, size_t max);

/*
 * The first half of a call, for many at once: sends the request under a monitor and an alias of one
 * reference. The answer, or DOWN, comes by mote_receive_ref(). Give up with mote_demonitor(ref, MOTE_FLUSH).
 * id 0 on failure: -EINVAL, -EMSGSIZE, -ENOMEM, or a full mailbox as in mote_send, which may wait. Follows
 * gen_server:send_request/2. _msg takes m and sends it without a copy.
 */
MOTE_API mote_ref mote_request(mote_pid to, uint32_t type, const void *data, size_t size);
MOTE_API mote_ref mote_request_msg(mote_pid to, struct mote_msg *m);

/* Whom to answer, of a request that was received by mote_receive; ref.id 0: nobody waits. Any thread. */
MOTE_API struct mote_from mote_msg_from(const struct mote_msg *m);

/*
 * Says that somebody else has been told `from`, and may answer, while the caller still has the request: then whoever
 * asked does not wait for the caller alone, and a circle through the two is none. To be called before the caller calls
 * others. Needless once the request is freed. Any thread; nothing on a foreign one.
 */
MOTE_API void mote_from_pass(struct mote_from from);

/*
 * Answers. The asker gets a message of the request's reference and the given type. 0, also when nobody
 * wants it any more; errors as mote_send. Passes by the asker's limit: never waits. _msg takes m. Any thread.
 */
MOTE_API int mote_reply(struct mote_from from, uint32_t type, const void *data, size_t size);
MOTE_API int mote_reply_msg(struct mote_from from, struct mote_msg *m);

MOTE_END_DECLS

#endif
