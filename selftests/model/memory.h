/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Memory between threads. Each thread's stores wait in a queue of its own, and reach the others whenever they like: in
 * order, which is what x86 does; with WEAK in any order that the language's release and coherence leave, which is more
 * than ARM does. A load that is done early (ARM) looks like the stores before it being late, so queues stand for that,
 * too. drain() is a full fence; for another thread than the caller's it is what membarrier() does to that one.
 *
 * Who includes this defines LATE, how many stores may be under way from one thread; APPLY, which carries one out; and
 * OVERTAKES, for WEAK: options that carry out what may overtake.
 * With SC stores are immediate: for claims about what happens in the end, which do not hinge on memory.
 */
#ifdef SC
inline store(kind, where, new) { atomic { what = kind; who = where; value = new; APPLY; what = 0; who = 0; value = 0 } }
inline drain(thread) { skip }
#else
chan late[THREADS] = [LATE] of { byte, byte, byte };

inline store(kind, where, new) { late[self]!kind,where,new }

inline drain(thread)
{
	do
	:: nempty(late[thread]) -> late[thread]?what,who,value; APPLY
	:: empty(late[thread]) -> break
	od;
	what = 0; who = 0; value = 0
}

/* Relaxed: behind its own thread's stores to the same place, and nothing else. */
#define OVERTAKE(kind, kind_release) \
	:: atomic { late[self]??[kind,_,_] && !late[self]??[kind_release,_,_] -> \
		late[self]??kind,who,value; what = kind; APPLY; what = 0; who = 0; value = 0 }

proctype memory(byte self)
{
	byte what, who, value;

end:	do
	:: atomic { late[self]?what,who,value -> APPLY; what = 0; who = 0; value = 0 }
#ifdef WEAK
	OVERTAKES
#endif
	od
}
#endif
