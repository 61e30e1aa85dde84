// SPDX-License-Identifier: MIT OR GPL-2.0

package main

import (
	"errors"
	"runtime"
	"sync/atomic"
)

// A server, and the supervisor above it, written out: the supervisor's goroutine starts a worker, tells the client where
// it is, hears why it ended, and starts the next one.
func supervised(here chan<- chan order, stop <-chan struct{}, done chan<- struct{}, right func(any) bool) {
	for {
		orders, dead := make(chan order), make(chan any, 1)
		go worker(orders, dead)
		here <- orders
		select {
		case why := <-dead:
			check(right(why), "it is told why")
		case <-stop:
			close(orders)
			<-dead
			close(done)
			return
		}
	}
}

func supervisorRestarts(name string, how func(), right func(any) bool) {
	seed, reply := uint64(0), make(chan Msg, 1)
	next := func(here chan chan order) chan order {
		orders := <-here
		orders <- order{request: request{msg(seed), reply}}
		m := <-reply
		check(m.is(seed), "the answer is right")
		seed++
		return orders
	}
	c := begin()
	for {
		here, stop, done := make(chan chan order, 1), make(chan struct{}), make(chan struct{})
		go supervised(here, stop, done, right)
		orders := next(here)
		for i := 0; i < 100; i++ {
			orders <- order{how: how}
			orders = next(here)
		}
		close(stop)
		<-done
		if !c.more(100) {
			break
		}
	}
	c.end(name)
}

func supervisorExit() {
	supervisorRestarts("supervisor_exit", func() { panic(errTold) }, func(why any) bool {
		err, ok := why.(error)
		return ok && errors.Is(err, errTold)
	})
}

func supervisorFault() {
	supervisorRestarts("supervisor_fault", func() { *nowhere = 1 }, func(why any) bool {
		_, ok := why.(runtime.Error)
		return ok
	})
}

// A node of the tree: a server, or one that starts others in order, and stops them in reverse.
type limb struct {
	stop, done chan struct{}
}

var limbs atomic.Int64

func leaf() limb {
	b, ready := limb{make(chan struct{}), make(chan struct{})}, make(chan struct{})
	go func() {
		orders := make(chan order)
		limbs.Add(1)
		close(ready)
		for {
			select {
			case o := <-orders:
				o.reply <- o.m
			case <-b.stop:
				limbs.Add(-1)
				close(b.done)
				return
			}
		}
	}()
	<-ready
	return b
}

func bough(n int, start func() limb) limb {
	b, ready := limb{make(chan struct{}), make(chan struct{})}, make(chan struct{})
	go func() {
		below := make([]limb, n)
		for i := range below {
			below[i] = start()
		}
		close(ready)
		<-b.stop
		for i := n - 1; i >= 0; i-- {
			close(below[i].stop)
			<-below[i].done
		}
		close(b.done)
	}()
	<-ready
	return b
}

func supervisorTree() {
	c := begin()
	for {
		top := bough(100, func() limb { return bough(100, leaf) })
		check(limbs.Load() == 10000, "it has all its servers")
		close(top.stop)
		<-top.done
		check(limbs.Load() == 0, "all of them are gone")
		if !c.more(10000) {
			break
		}
	}
	c.end("supervisor_tree")
}
