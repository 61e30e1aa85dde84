// SPDX-License-Identifier: MIT OR GPL-2.0

package main

import (
	"runtime"
	"sort"
	"sync/atomic"
	"syscall"
	"time"
)

const period = time.Millisecond

var (
	deeds   atomic.Uint64
	nowhere *int
)

func hog() {
	for {
		deeds.Add(1)
	}
}

// Ten milliseconds in the kernel, past the runtime's own timers.
func blocker() {
	for {
		t := syscall.Timespec{Nsec: 10e6}
		syscall.Nanosleep(&t, nil)
		deeds.Add(1)
		runtime.Gosched()
	}
}

func crashLoop() {
	for {
		dead := make(chan any)
		go func() {
			defer func() { dead <- recover() }()
			*nowhere = 1
		}()
		_, ok := (<-dead).(runtime.Error)
		check(ok, "a fault ended the goroutine")
		deeds.Add(1)
	}
}

// Every millisecond a call is due; measured is how late its answer is there.
func beside(name string, bad func()) {
	server, reply := make(chan request), make(chan Msg, 1)
	go func() {
		for r := range server {
			check(r.m.is(r.m[0]), "the request is whole")
			r.reply <- r.m
		}
	}()
	call := func(seed uint64) {
		server <- request{msg(seed), reply}
		m := <-reply
		check(m.is(seed), "the answer is right")
	}
	for i := uint64(0); i < 10; i++ {
		call(i)
	}
	late := make([]time.Duration, 8*span/period)
	start := time.Now()
	for i := range late {
		due := start.Add(time.Duration(i+1) * period)
		time.Sleep(time.Until(due))
		call(uint64(i))
		late[i] = time.Since(due)
		check(late[i] >= 0, "nothing is early")
		for j := 0; i == len(late)/10 && bad != nil && j < runtime.GOMAXPROCS(0); j++ {
			go bad()
		}
	}
	check(bad == nil || deeds.Load() > 0, "the neighbour is as bad as it should be")
	sort.Slice(late, func(a, b int) bool { return late[a] < late[b] })
	for _, q := range []struct {
		name  string
		share float64
	}{{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}} {
		at := int(q.share * float64(len(late)))
		if at == len(late) {
			at--
		}
		figure(name+"_"+q.name, float64(late[at])/1e3, "us", 0)
	}
}
