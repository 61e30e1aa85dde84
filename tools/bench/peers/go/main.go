// SPDX-License-Identifier: MIT OR GPL-2.0

// Twins of mote-bench in Go: one run of the benchmark that the argument names, or a server ("echo", "kv").
// GOMAXPROCS and the CPUs are set from outside.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// Msg is 64 bytes that are written by each sender and read by each receiver.
type Msg [8]uint64

func msg(seed uint64) (m Msg) {
	for i := range m {
		m[i] = seed + uint64(i)
	}
	return
}

func (m *Msg) is(seed uint64) bool {
	var wrong uint64
	for i := range m {
		wrong |= m[i] ^ (seed + uint64(i))
	}
	return wrong == 0
}

func check(ok bool, what string) {
	if !ok {
		fmt.Fprintln(os.Stderr, "not so:", what)
		os.Exit(1)
	}
}

func cpuNow() int64 {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return r.Utime.Nano() + r.Stime.Nano()
}

// A clock measures wall and CPU time of whole batches until a run has lasted long enough.
type clock struct {
	start time.Time
	cpu   int64
	n     int
}

var span = 250 * time.Millisecond

func begin() *clock { return &clock{cpu: cpuNow(), start: time.Now()} }

func (c *clock) more(n int) bool {
	c.n += n
	return time.Since(c.start) < span
}

func (c *clock) end(name string) {
	wall, cpu := time.Since(c.start).Nanoseconds(), cpuNow()-c.cpu
	figure(name, float64(wall)/float64(c.n), "ns", float64(cpu)/float64(c.n))
}

func figure(name string, value float64, unit string, cpu float64) {
	fmt.Printf("%s %.2f %s min %.2f median %.2f max %.2f cpu %.2f runs 1\n",
		name, value, unit, value, value, value, cpu)
}

var benchmarks = map[string]func(){
	"pingpong":         pingpong,
	"ring":             ring,
	"flood":            flood,
	"fanin":            fanin,
	"spawn":            spawn,
	"spawn_all":        spawnAll,
	"spawn_parked":     spawnParked,
	"spawn_monitor":    spawnMonitor,
	"memory_server":    func() { memory("memory_server") },
	"memory_stackful":  func() { memory("memory_stackful") },
	"timer_cancel":     timerCancel,
	"timer_late":       timerLate,
	"skynet":           skynet,
	"calls":            calls,
	"echo":             func() { serve(echo) },
	"kv":               func() { serve(kv) },
	"call":             call,
	"cast":             cast,
	"supervise_exit":   superviseExit,
	"supervise_fault":  superviseFault,
	"supervisor_exit":  supervisorExit,
	"supervisor_fault": supervisorFault,
	"supervisor_tree":  supervisorTree,
	"async":            async,
	"async_stream":     asyncStream,
	"registry_lookup":  registryLookup,
	"registry_enter":   registryEnter,
	"version":          func() { fmt.Println(runtime.Version()) },
}

func main() {
	if s, err := strconv.ParseFloat(os.Getenv("BENCH_SECONDS"), 64); err == nil && s > 0 {
		span = time.Duration(s * 1e9)
	}
	for name, bad := range map[string]func(){"nobody": nil, "hog": hog, "blocker": blocker, "crashes": crashLoop} {
		for _, prefix := range []string{"neighbour_", "neighbours_"} {
			name, bad := prefix+name, bad
			benchmarks[name] = func() { beside(name, bad) }
		}
	}
	if len(os.Args) != 2 || benchmarks[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "no such benchmark")
		os.Exit(2)
	}
	benchmarks[os.Args[1]]()
}
