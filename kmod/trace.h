/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM mote

#if !defined(_MOTE_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _MOTE_TRACE_H

#include <linux/tracepoint.h>

TRACE_EVENT(mote_node_up, TP_PROTO(u32 node, u32 nr_slots), TP_ARGS(node, nr_slots),
	    TP_STRUCT__entry(__field(u32, node) __field(u32, nr_slots)),
	    TP_fast_assign(__entry->node = node; __entry->nr_slots = nr_slots;),
	    TP_printk("node=%u slots=%u", __entry->node, __entry->nr_slots));

TRACE_EVENT(mote_node_down, TP_PROTO(u32 node, u32 why), TP_ARGS(node, why),
	    TP_STRUCT__entry(__field(u32, node) __field(u32, why)),
	    TP_fast_assign(__entry->node = node; __entry->why = why;),
	    TP_printk("node=%u why=%u", __entry->node, __entry->why));

DECLARE_EVENT_CLASS(mote_lane, TP_PROTO(u32 lane, u32 writer, u32 reader),
		    TP_ARGS(lane, writer, reader),
		    TP_STRUCT__entry(__field(u32, lane) __field(u32, writer) __field(u32, reader)),
		    TP_fast_assign(__entry->lane = lane; __entry->writer = writer;
				   __entry->reader = reader;),
		    TP_printk("lane=%u writer=%u reader=%u", __entry->lane, __entry->writer,
			      __entry->reader));

DEFINE_EVENT(mote_lane, mote_lane_open, TP_PROTO(u32 lane, u32 writer, u32 reader),
	     TP_ARGS(lane, writer, reader));

/* One end closes; the lane is gone after the second time. */
DEFINE_EVENT(mote_lane, mote_lane_close, TP_PROTO(u32 lane, u32 writer, u32 reader),
	     TP_ARGS(lane, writer, reader));

TRACE_EVENT(mote_ring, TP_PROTO(u32 seq, bool woke, bool handoff), TP_ARGS(seq, woke, handoff),
	    TP_STRUCT__entry(__field(u32, seq) __field(bool, woke) __field(bool, handoff)),
	    TP_fast_assign(__entry->seq = seq; __entry->woke = woke; __entry->handoff = handoff;),
	    TP_printk("seq=%u woke=%d handoff=%d", __entry->seq, __entry->woke,
		      __entry->handoff));

TRACE_EVENT(mote_park, TP_PROTO(u32 node, u32 slot, u32 seq), TP_ARGS(node, slot, seq),
	    TP_STRUCT__entry(__field(u32, node) __field(u32, slot) __field(u32, seq)),
	    TP_fast_assign(__entry->node = node; __entry->slot = slot; __entry->seq = seq;),
	    TP_printk("node=%u slot=%u seq=%u", __entry->node, __entry->slot, __entry->seq));

TRACE_EVENT(mote_activate, TP_PROTO(u32 node, u32 worker, bool spare),
	    TP_ARGS(node, worker, spare),
	    TP_STRUCT__entry(__field(u32, node) __field(u32, worker) __field(bool, spare)),
	    TP_fast_assign(__entry->node = node; __entry->worker = worker;
			   __entry->spare = spare;),
	    TP_printk("node=%u worker=%u spare=%d", __entry->node, __entry->worker,
		      __entry->spare));

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
