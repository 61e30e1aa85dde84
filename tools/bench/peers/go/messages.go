// SPDX-License-Identifier: MIT OR GPL-2.0

package main

const (
	batch   = 1000
	procs   = 1000
	each    = 1000
	backlog = 1024
)

func pingpong() {
	a, b := make(chan Msg), make(chan Msg)
	go func() {
		for m := range a {
			check(m.is(m[0]), "the ping is whole")
			b <- msg(m[0] + 1)
		}
	}()
	seed := uint64(0)
	round := func() {
		for i := 0; i < batch; i++ {
			a <- msg(seed)
			m := <-b
			seed++
			check(m.is(seed), "the pong is right")
		}
	}
	for i := 0; i < 10; i++ {
		round()
	}
	c := begin()
	for round(); c.more(batch); round() {
	}
	c.end("pingpong")
}

func ring() {
	var chans [procs]chan Msg
	done := make(chan Msg)
	for i := range chans {
		chans[i] = make(chan Msg)
	}
	for i := range chans {
		go func(in, out chan Msg) {
			for m := range in {
				left := m[0]
				check(m.is(left), "the token is whole")
				if left == 0 {
					done <- msg(^uint64(0))
				} else {
					out <- msg(left - 1)
				}
			}
		}(chans[i], chans[(i+1)%procs])
	}
	turn := func() {
		chans[0] <- msg(10*procs - 1)
		m := <-done
		check(m.is(^uint64(0)), "the token made all its hops")
	}
	turn()
	c := begin()
	for turn(); c.more(10 * procs); turn() {
	}
	c.end("ring")
}

// A bounded channel, as every Go programmer would use: the sender waits when 1,024 are under way.
func flood() {
	const burst = 100000
	data, start := make(chan Msg, backlog), make(chan struct{})
	go func() {
		for range start {
			for i := uint64(0); i < burst; i++ {
				data <- msg(i)
			}
		}
	}()
	round := func() {
		start <- struct{}{}
		for i := uint64(0); i < burst; i++ {
			m := <-data
			check(m.is(i), "the messages come whole and in order")
		}
	}
	round()
	c := begin()
	for round(); c.more(burst); round() {
	}
	c.end("flood")
}

func fanin() {
	data := make(chan Msg, backlog)
	starts := make([]chan struct{}, procs)
	for i := range starts {
		starts[i] = make(chan struct{})
		go func(start chan struct{}) {
			for range start {
				for j := uint64(0); j < each; j++ {
					data <- msg(j)
				}
			}
		}(starts[i])
	}
	round := func() {
		go func() {
			for _, s := range starts {
				s <- struct{}{}
			}
		}()
		sum := uint64(0)
		for i := 0; i < procs*each; i++ {
			m := <-data
			check(m.is(m[0]), "the message is whole")
			sum += m[0]
		}
		check(sum == procs*each*(each-1)/2, "all messages came")
	}
	round()
	c := begin()
	for round(); c.more(procs * each); round() {
	}
	c.end("fanin")
}

type request struct {
	m     Msg
	reply chan Msg
}

// Without a deadline, and without noticing that the server is gone.
func call() {
	server, reply := make(chan request), make(chan Msg, 1)
	go func() {
		for r := range server {
			check(r.m.is(r.m[0]), "the request is whole")
			r.reply <- r.m
		}
	}()
	seed := uint64(0)
	round := func() {
		for i := 0; i < batch; i++ {
			server <- request{msg(seed), reply}
			m := <-reply
			check(m.is(seed), "the answer is right")
			seed++
		}
	}
	for i := 0; i < 10; i++ {
		round()
	}
	c := begin()
	for round(); c.more(batch); round() {
	}
	c.end("call")
}

// A server with a buffered channel; a request with an answer at the end of each batch waits until it has seen all.
func cast() {
	type message struct {
		m     Msg
		reply chan Msg
	}
	server, reply := make(chan message, 128), make(chan Msg, 1)
	go func() {
		casts := uint64(0)
		for r := range server {
			if r.reply != nil {
				r.reply <- r.m
				continue
			}
			check(r.m.is(casts), "the cast is whole")
			casts++
		}
	}()
	seed := uint64(0)
	c := begin()
	for ok := true; ok; ok = c.more(batch) {
		for i := 0; i < batch; i++ {
			server <- message{m: msg(seed)}
			seed++
		}
		server <- message{msg(seed), reply}
		m := <-reply
		check(m.is(seed), "the answer is right")
	}
	c.end("cast")
}

// 1,000 pairs of caller and server, 1,000 calls each; a caller keeps its reply channel.
func calls() {
	round := func() {
		done := make(chan struct{})
		for i := 0; i < procs; i++ {
			go func() {
				server, reply := make(chan request), make(chan Msg, 1)
				go func() {
					for r := range server {
						check(r.m.is(r.m[0]), "the request is whole")
						r.reply <- r.m
					}
				}()
				for j := uint64(0); j < each; j++ {
					server <- request{msg(j), reply}
					m := <-reply
					check(m.is(j), "the answer is right")
				}
				close(server)
				done <- struct{}{}
			}()
		}
		for i := 0; i < procs; i++ {
			<-done
		}
	}
	c := begin()
	for round(); c.more(procs * each); round() {
	}
	c.end("calls")
}
