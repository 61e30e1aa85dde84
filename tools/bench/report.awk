# SPDX-License-Identifier: MIT OR GPL-2.0
#
# Turns results (lines of: who figure value unit cpu) into a report. -v mode=markdown|json|svg -v about=FILE, a file
# with lines about the machine and the peers.

# The bars: figure, against whom ("best": the best peer, "is": an absolute figure), and how much of it.
function bars() {
	bar("pingpong", "go", 0.25); bar("ring", "go", 0.3); bar("flood", "go", 0.7); bar("fanin", "best", 0.6)
	bar("spawn", "best", 0.4); bar("spawn_all", "best", 0.25); bar("spawn_parked", "go", 2.0)
	bar("spawn_monitor", "go", 0.5); bar("memory_server", "is", 256); bar("memory_stackful", "is", 4400)
	bar("receive_ref_before_10k", "is", 1.2); bar("receive_ref_before_1m", "is", 1.2)
	bar("receive_ref_after_10k", "is", 1.2); bar("receive_ref_after_1m", "is", 1.2)
	bar("timer_cancel", "go", 0.4); bar("timer_late_p50", "is", 200); bar("timer_late_p99", "is", 1000)
	bar("skynet", "go", 0.3); bar("echo", "epoll", 1.15); bar("echo_16", "epoll", 1.2)
	bar("kv_get", "redis", 0.85); bar("kv_set", "redis", 0.85)
	bar("kv_get_16", "redis", 0.9); bar("kv_set_16", "redis", 0.9)
	bar("spawn_speedup", "is", 1.5); bar("skynet_speedup", "is", 1.5); bar("calls_speedup", "is", 1.5)
	bar("fanin_two", "best", 0.6)
	bar("supervise_exit", "go", 0.7); bar("supervise_fault", "is", 5000)
	bar("supervisor_exit", "go", 0.7); bar("supervisor_fault", "is", 5000); bar("supervisor_tree", "go", 0.7)
	bar("call", "go", 0.3); bar("async", "go", 0.35); bar("async_stream", "go", 0.6)
	bar("registry_lookup", "elixir", 0.5)
	bar("node_stream_64", "shm", 1.5); bar("node_pingpong", "shm", 5)
}

function bar(figure, whom, share) {
	bar_whom[figure] = whom
	bar_share[figure] = share
}

# The latency of neighbours has a table of its own.
function of_neighbour(figure) { return figure ~ /^neighbours?_/ }

function more_is_better(figure) { return figure ~ /_(speedup|rate)$/ }

{
	who = $1; figure = $2; key = who SUBSEP figure
	if (!(figure in unit)) {
		unit[figure] = $4
		order[++figures] = figure
	}
	if (!(who in seen)) {
		seen[who] = 1
		people[++persons] = who
	}
	n[key]++
	value[key, n[key]] = $3 + 0
	cpu[key, n[key]] = $5 + 0
}

function sorted(a, key, count,    i, j, t) {
	for (i = 1; i <= count; i++)
		scratch[i] = a[key, i]
	for (i = 2; i <= count; i++) {
		t = scratch[i]
		for (j = i - 1; j > 0 && scratch[j] > t; j--)
			scratch[j + 1] = scratch[j]
		scratch[j + 1] = t
	}
}

function middle(count) {
	return count % 2 ? scratch[(count + 1) / 2] : (scratch[count / 2] + scratch[count / 2 + 1]) / 2
}

function summarise(    k, part) {
	for (k in n) {
		sorted(cpu, k, n[k])
		mcpu[k] = middle(n[k])
		sorted(value, k, n[k])
		med[k] = middle(n[k])
		low[k] = scratch[1]
		high[k] = scratch[n[k]]
		split(k, part, SUBSEP)
		if (part[1] == "mote")
			med_of_mote[part[2]] = med[k]
	}
}

function best_peer(figure,    i, k, b) {
	b = ""
	for (i = 1; i <= persons; i++) {
		k = people[i] SUBSEP figure
		if (people[i] == "mote" || !(k in med))
			continue
		if (b == "" || (more_is_better(figure) ? med[k] > med[b, figure] : med[k] < med[b, figure]))
			b = people[i]
	}
	return b
}

# How mote stands to somebody; "" if either is missing.
function ratio(figure, whom) {
	if (!(("mote", figure) in med) || whom == "" || !((whom, figure) in med) || med[whom, figure] == 0)
		return ""
	return med["mote", figure] / med[whom, figure]
}

# The same in CPU time, which a busy machine disturbs less.
function cpu_ratio(figure, whom) {
	if (whom == "" || !mcpu["mote", figure] || !mcpu[whom, figure])
		return ""
	return mcpu["mote", figure] / mcpu[whom, figure]
}

# How much longer things took than they used a CPU, over the figures of one scheduler that never sleeps.
function busy(    f, sum, count) {
	for (f in med_of_mote) {
		if (unit[f] == "ns" && f !~ /^(echo|kv|node)|_two$/ && mcpu["mote", f]) {
			sum += med["mote", f] / mcpu["mote", f]
			count++
		}
	}
	return count ? sum / count : 1
}

# 1 met, 0 missed, "" no bar or nothing to hold it against
function met(figure,    whom, r) {
	if (!(figure in bar_whom) || !(("mote", figure) in med))
		return ""
	if (bar_whom[figure] == "is")
		return more_is_better(figure) ? med["mote", figure] >= bar_share[figure] : \
			med["mote", figure] <= bar_share[figure]
	whom = bar_whom[figure] == "best" ? best_peer(figure) : bar_whom[figure]
	r = ratio(figure, whom)
	return r == "" ? "" : r <= bar_share[figure]
}

function bar_text(figure) {
	if (!(figure in bar_whom))
		return "–"
	if (bar_whom[figure] == "is")
		return (more_is_better(figure) ? "≥ " : "≤ ") bar_share[figure] " " unit[figure]
	return bar_share[figure] " " (bar_whom[figure] == "best" ? "of the best" : bar_whom[figure])
}

function number(v) {
	if (v >= 10000)
		return sprintf("%.0f", v)
	return v >= 100 ? sprintf("%.1f", v) : sprintf("%.2f", v)
}

function worse(figure, r) { return more_is_better(figure) ? r < 1 : r > 1 }

function markdown(    i, f, b, r, c, lost, missed, line, p) {
	print "# mote and its peers\n"
	for (i = 1; i <= figures; i++) {
		f = order[i]
		r = ratio(f, best_peer(f))
		if (r != "" && worse(f, r) && f !~ /_(one|rate)$|^neighbours?_.*_max$/)
			lost = lost "- " f ": " best_peer(f) " " number(med[best_peer(f), f]) " " unit[f] \
				", mote " number(med["mote", f]) " " unit[f] "\n"
		if (met(f) == "0")
			missed = missed (missed == "" ? "" : ", ") f
	}
	print lost == "" ? "No peer wins.\n" : "**Where a peer wins:**\n\n" lost
	print missed == "" ? "No bar is missed.\n" : "Bars missed: " missed ".\n"
	if (busy() > 1.1)
		printf "The machine was busy with other things: wall time was %.1f times CPU time. Judge by CPU time.\n\n", busy()
	while ((getline line < about) > 0)
		print "- " line
	print "\n| figure | unit | mote | min … max | CPU | best peer | mote ÷ best | by CPU | bar | met |"
	print "|---|---|--:|--:|--:|---|--:|--:|---|---|"
	for (i = 1; i <= figures; i++) {
		f = order[i]
		if (!(("mote", f) in med) || of_neighbour(f))
			continue
		b = best_peer(f)
		r = ratio(f, b)
		c = cpu_ratio(f, b)
		printf "| %s | %s | %s | %s … %s | %s | %s | %s | %s | %s | %s |\n", f, unit[f], number(med["mote", f]), \
			number(low["mote", f]), number(high["mote", f]), \
			mcpu["mote", f] ? number(mcpu["mote", f]) : "–", \
			b == "" ? "–" : b " " number(med[b, f]), r == "" ? "–" : sprintf("%.2f", r), \
			c == "" ? "–" : sprintf("%.2f", c), bar_text(f), \
			met(f) == "" ? "–" : met(f) ? "yes" : "**no**"
	}
	printf "\nAll, medians:\n\n| figure | unit |"
	for (p = 1; p <= persons; p++)
		printf " %s |", people[p]
	printf "\n|---|---|"
	for (p = 1; p <= persons; p++)
		printf "--:|"
	print ""
	for (i = 1; i <= figures; i++) {
		f = order[i]
		if (of_neighbour(f))
			continue
		printf "| %s | %s |", f, unit[f]
		for (p = 1; p <= persons; p++)
			printf " %s |", ((people[p], f) in med) ? number(med[people[p], f]) : ""
		print ""
	}
	neighbours()
	unfair()
}

# How late what is due every millisecond gets done, beside whom.
function neighbours(    i, p, f, part, base, who, head) {
	for (i = 1; i <= figures; i++) {
		f = order[i]
		if (!of_neighbour(f) || f !~ /_p50$/)
			continue
		if (!head++) {
			print "\nA call that is due every millisecond: how late its answer is there, in µs; beside a bad neighbour per"
			print "scheduler, on as many CPUs; medians of the runs:\n"
			print "| beside | schedulers | | p50 | p99 | p99.9 | max |\n|---|--:|---|--:|--:|--:|--:|"
		}
		base = substr(f, 1, length(f) - 4)
		split(base, part, "_")
		for (p = 1; p <= persons; p++) {
			who = people[p]
			if (!((who, f) in med))
				continue
			printf "| %s | %d | %s | %s | %s | %s | %s |\n", part[2], part[1] == "neighbour" ? 1 : 2, who, \
				number(med[who, f]), number(med[who, base "_p99"]), number(med[who, base "_p999"]), \
				number(med[who, base "_max"])
		}
	}
}

function unfair() {
	print "\nWhat is unfair:\n"
	print "- To Go: its scheduler shares the one CPU with its garbage collector and monitor thread; a goroutine has no"
	print "  mailbox, links or exit reason, so its twins do less (spawn_monitor is a closed channel). Its channels are"
	print "  bounded, mote's and Erlang's mailboxes are not: flood and fanin switch more often in Go."
	print "- To Erlang: processes have heaps that are collected one by one, and terms are built, not written: 64 bytes"
	print "  cost it more than C. Its timers count whole milliseconds. Its CPU time is counted in ticks of 10 ms."
	print "- To Boost.Fiber and CAF: the distribution's versions are old. Fibers here have fixed stacks of 16 KiB without"
	print "  guards, and neither mailboxes nor monitors: they do less. CAF's actors hold no stack: memory_server only."
	print "- To redis: it does more per request (expiry, statistics, a client table). The Go server does less."
	print "- To mote: the epoll server has no processes; it is the floor, not a rival. receive_ref has its twin in Erlang"
	print "  only for messages that came before."
	print "- To mote: shm carries the bytes of one sender to one receiver that trust each other. mote finds the receiver by"
	print "  its pid, keeps the order with all other signals, and checks what it reads: node_*."
	print "- supervise: what mote's monitors do is written out by hand in Go, without a deadline for the answer; Erlang's"
	print "  supervisor is not used. Erlang has no faults that it survives, so supervise_fault has no twin there; mote's reason"
	print "  holds a backtrace, Go's does not."
	print "- neighbours: the blocker sleeps in the kernel for 10 ms, calls the runtime, and sleeps again. Go's system call tells"
	print "  its scheduler that it blocks, mote's is the C library's and tells nobody; Erlang's reads from a pipe on a thread made"
	print "  for blocking, as all its file operations. Erlang's timers count whole milliseconds, Go's idle scheduler sleeps in"
	print "  whole milliseconds. Erlang's crashes are exits, not faults. All this is wall time: it wants an idle machine."
	print "- To all: the machine is shared and virtual; ratios of one session are what counts, not nanoseconds. How much two"
	print "  schedulers gain depends on how far apart the host puts the two CPUs just now (cpus_apart)."
}

function json(    i, p, f, k, line, sep) {
	printf "["
	while ((getline line < about) > 0) {
		gsub(/["\\]/, "", line)
		printf "%s\n {\"about\": \"%s\"}", sep, line
		sep = ","
	}
	for (i = 1; i <= figures; i++) {
		for (p = 1; p <= persons; p++) {
			f = order[i]
			k = people[p] SUBSEP f
			if (!(k in med))
				continue
			printf "%s\n {\"name\": \"%s\", \"who\": \"%s\", \"value\": %.4f, \"unit\": \"%s\", \"min\": %.4f, " \
				"\"median\": %.4f, \"max\": %.4f, \"cpu\": %.4f, \"runs\": %d}", sep, f, people[p], med[k], \
				unit[f], low[k], med[k], high[k], mcpu[k], n[k]
			sep = ","
		}
	}
	print "\n]"
}

# A row per figure: mote's share of the best peer, whose bar is the line at 1.
function svg(    i, f, r, rows, y, w) {
	for (i = 1; i <= figures; i++) {
		if (ratio(order[i], best_peer(order[i])) != "" && order[i] !~ /_(rate|one|speedup)$/ && !of_neighbour(order[i]))
			row[++rows] = order[i]
	}
	printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"%d\" font-family=\"sans-serif\" " \
		"font-size=\"12\">\n", 60 + 22 * rows
	print "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
	print "<text x=\"10\" y=\"20\" font-size=\"14\">mote against the best peer (line: the peer; shorter is better)</text>"
	for (i = 1; i <= rows; i++) {
		f = row[i]
		r = ratio(f, best_peer(f))
		y = 22 + 22 * i
		w = 200 * (r > 2 ? 2 : r)
		printf "<text x=\"175\" y=\"%d\" text-anchor=\"end\">%s</text>\n", y + 8, f
		printf "<rect x=\"180\" y=\"%d\" width=\"%.1f\" height=\"14\" fill=\"%s\"/>\n", y - 4, w, \
			r <= 1 ? "#3a7d44" : "#b5532a"
		printf "<text x=\"%.1f\" y=\"%d\">%.2f · %s %s, %s %s %s</text>\n", 186 + w, y + 8, r, \
			number(med["mote", f]), unit[f], best_peer(f), number(med[best_peer(f), f]), unit[f]
	}
	printf "<line x1=\"380\" x2=\"380\" y1=\"34\" y2=\"%d\" stroke=\"#333\" stroke-dasharray=\"3 3\"/>\n</svg>\n", \
		44 + 22 * rows
}

END {
	bars()
	summarise()
	if (mode == "json")
		json()
	else if (mode == "svg")
		svg()
	else
		markdown()
}
