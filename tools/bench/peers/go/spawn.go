// SPDX-License-Identifier: MIT OR GPL-2.0

package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const million = 1000000

func wave(n int) {
	var wg sync.WaitGroup
	var ran atomic.Int64
	wg.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			ran.Add(1)
			wg.Done()
		}()
	}
	wg.Wait()
	check(ran.Load() == int64(n), "all have run")
}

func spawn() {
	for i := 0; i < 10; i++ {
		wave(batch)
	}
	c := begin()
	for {
		wave(batch)
		if !c.more(batch) {
			break
		}
	}
	c.end("spawn")
}

func spawnAll() {
	c := begin()
	wave(million)
	c.more(million)
	c.end("spawn_all")
}

func spawnParked() {
	var ready sync.WaitGroup
	never := make(chan Msg)
	ready.Add(million)
	c := begin()
	for i := 0; i < million; i++ {
		go func() {
			ready.Done()
			<-never
		}()
	}
	ready.Wait()
	c.more(million)
	c.end("spawn_parked")
	check(runtime.NumGoroutine() == million+1, "all are alive")
}

// The nearest to spawn_monitor and DOWN: a channel that is closed at the end.
func spawnMonitor() {
	one := func() {
		done := make(chan struct{})
		go func() { defer close(done) }()
		<-done
	}
	for i := 0; i < 10*batch; i++ {
		one()
	}
	c := begin()
	for {
		for i := 0; i < batch; i++ {
			one()
		}
		if !c.more(batch) {
			break
		}
	}
	c.end("spawn_monitor")
}

func resident() int64 {
	var total, pages int64
	f, err := os.Open("/proc/self/statm")
	check(err == nil, "/proc/self/statm can be read")
	defer f.Close()
	fmt.Fscan(f, &total, &pages)
	return pages * int64(os.Getpagesize())
}

// A goroutine with a channel of its own, which is its pid and its mailbox.
func memory(name string) {
	chans := make([]chan Msg, million)
	for i := range chans {
		chans[i] = nil
	}
	var ready sync.WaitGroup
	ready.Add(million)
	before := resident()
	for i := range chans {
		c := make(chan Msg)
		chans[i] = c
		go func() {
			ready.Done()
			<-c
		}()
	}
	ready.Wait()
	time.Sleep(200 * time.Millisecond)
	figure(name, float64(resident()-before)/million, "B", 0)
	runtime.KeepAlive(chans)
}

func branch(parent chan uint64, number, size uint64) {
	if size == 1 {
		parent <- number
		return
	}
	children := make(chan uint64)
	var sum uint64
	for i := uint64(0); i < 10; i++ {
		go branch(children, number+i*(size/10), size/10)
	}
	for i := 0; i < 10; i++ {
		sum += <-children
	}
	parent <- sum
}

// The second tree is measured: the memory is there.
func skynet() {
	tree := func() {
		top := make(chan uint64)
		go branch(top, 0, million)
		check(<-top == million*(million-1)/2, "the sum is right")
	}
	tree()
	c := begin()
	tree()
	wall, cpu := time.Since(c.start), cpuNow()-c.cpu
	figure("skynet", wall.Seconds()*1e3, "ms", float64(cpu)/1e6)
}
