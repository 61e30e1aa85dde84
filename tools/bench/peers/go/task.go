// SPDX-License-Identifier: MIT OR GPL-2.0

package main

import (
	"errors"
	"sync"
)

var errFailed = errors.New("failed")

// A goroutine and a channel for its answer. Nothing of a task's deadline, link or crash: that is mote's to make up for.
func async() {
	n := int64(0)
	round := func() {
		for i := 0; i < batch; i++ {
			n++
			arg, answer := n, make(chan int64, 1)
			go func() { answer <- 2 * arg }()
			check(<-answer == 2*n, "the task's answer is right")
		}
	}
	for i := 0; i < 10; i++ {
		round()
	}
	c := begin()
	for round(); c.more(batch); round() {
	}
	c.end("async")
}

// A group is golang.org/x/sync/errgroup with a limit, without a context: what Go and Wait do there.
type group struct {
	wg      sync.WaitGroup
	room    chan struct{}
	errOnce sync.Once
	err     error
}

func (g *group) Go(f func() error) {
	g.room <- struct{}{}
	g.wg.Add(1)
	go func() {
		defer func() {
			<-g.room
			g.wg.Done()
		}()
		if err := f(); err != nil {
			g.errOnce.Do(func() { g.err = err })
		}
	}()
}

func (g *group) Wait() error {
	g.wg.Wait()
	return g.err
}

// Eight at a time; the answers lie in the order of the items in the end.
func asyncStream() {
	answers := make([]int64, batch)
	round := func() {
		g := group{room: make(chan struct{}, 8)}
		for i := range answers {
			i := i
			g.Go(func() error {
				answers[i] = 2 * int64(i)
				if answers[i] < 0 {
					return errFailed
				}
				return nil
			})
		}
		check(g.Wait() == nil, "no task has failed")
		for i, v := range answers {
			check(v == 2*int64(i), "the answers are right")
		}
	}
	for i := 0; i < 10; i++ {
		round()
	}
	c := begin()
	for round(); c.more(batch); round() {
	}
	c.end("async_stream")
}
