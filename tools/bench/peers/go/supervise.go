// SPDX-License-Identifier: MIT OR GPL-2.0

package main

import (
	"errors"
	"runtime"
)

var errTold = errors.New("told to")

type order struct {
	request
	how func()
}

// What mote's links and monitors do is written out: whoever panics tells why on a channel.
func worker(orders chan order, dead chan any) {
	defer func() { dead <- recover() }()
	for o := range orders {
		if o.how != nil {
			o.how()
		}
		check(o.m.is(o.m[0]), "the question is whole")
		o.reply <- o.m
	}
}

func supervise(name string, how func(), right func(any) bool) {
	var orders chan order
	var dead chan any
	seed, reply := uint64(0), make(chan Msg, 1)
	start := func() {
		orders, dead = make(chan order), make(chan any, 1)
		go worker(orders, dead)
		orders <- order{request: request{msg(seed), reply}}
		m := <-reply
		check(m.is(seed), "the answer is right")
		seed++
	}
	start()
	c := begin()
	for {
		for i := 0; i < 100; i++ {
			orders <- order{how: how}
			check(right(<-dead), "it is told why")
			start()
		}
		if !c.more(100) {
			break
		}
	}
	c.end(name)
}

func superviseExit() {
	supervise("supervise_exit", func() { panic(errTold) }, func(why any) bool { return why == errTold })
}

func superviseFault() {
	supervise("supervise_fault", func() { *nowhere = 1 }, func(why any) bool {
		_, ok := why.(runtime.Error)
		return ok
	})
}
