// SPDX-License-Identifier: MIT OR GPL-2.0

package main

import (
	"math/rand"
	"sort"
	"sync"
	"time"
)

func timerCancel() {
	timers := make([]*time.Timer, batch)
	round := func() {
		for i := range timers {
			timers[i] = time.AfterFunc(5*time.Second, func() {})
		}
		for _, t := range timers {
			check(t.Stop(), "a timer that is not due can be stopped")
		}
	}
	for i := 0; i < 10; i++ {
		round()
	}
	c := begin()
	for {
		round()
		if !c.more(batch) {
			break
		}
	}
	c.end("timer_cancel")
}

// All are set before the first is due, in no order, at moments spread over 100 ms.
func timerLate() {
	const n = 10000
	late := make([]int64, n)
	first := time.Now().Add(50 * time.Millisecond)
	r := rand.New(rand.NewSource(1))
	var wg sync.WaitGroup
	wg.Add(n)
	for i := 0; i < n; i++ {
		i, due := i, first.Add(time.Duration(r.Int63n(int64(100*time.Millisecond))))
		time.AfterFunc(time.Until(due), func() {
			late[i] = int64(time.Since(due))
			wg.Done()
		})
	}
	wg.Wait()
	sort.Slice(late, func(a, b int) bool { return late[a] < late[b] })
	figure("timer_late_p50", float64(late[n/2])/1e3, "us", 0)
	figure("timer_late_p99", float64(late[n*99/100])/1e3, "us", 0)
}
