// SPDX-License-Identifier: MIT OR GPL-2.0

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
)

func serve(connection func(net.Conn)) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err == nil, "the server listens")
	fmt.Println("port", l.Addr().(*net.TCPAddr).Port)
	for {
		c, err := l.Accept()
		check(err == nil, "a connection is accepted")
		go connection(c)
	}
}

func echo(c net.Conn) {
	defer c.Close()
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if _, err = c.Write(b[:n]); err != nil {
			return
		}
	}
}

var store = struct {
	sync.RWMutex
	m map[string][]byte
}{m: map[string][]byte{}}

// number reads a line such as "*3" or "$5".
func number(r *bufio.Reader, kind byte) (int, error) {
	l, err := r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	l = bytes.TrimRight(l, "\r\n")
	if len(l) < 2 || l[0] != kind {
		return 0, fmt.Errorf("protocol error")
	}
	n, err := strconv.Atoi(string(l[1:]))
	if err != nil || n < 0 || n > 1<<20 {
		return 0, fmt.Errorf("protocol error")
	}
	return n, nil
}

func command(r *bufio.Reader, args [][]byte) ([][]byte, error) {
	args = args[:0]
	n, err := number(r, '*')
	for i := 0; i < n && err == nil; i++ {
		var size int
		if size, err = number(r, '$'); err != nil {
			break
		}
		a := make([]byte, size+2)
		_, err = io.ReadFull(r, a)
		args = append(args, a[:size])
	}
	return args, err
}

func kv(c net.Conn) {
	defer c.Close()
	r, w := bufio.NewReaderSize(c, 16384), bufio.NewWriterSize(c, 16384)
	var args [][]byte
	var err error
	for {
		if args, err = command(r, args); err != nil {
			return
		}
		switch name := string(bytes.ToUpper(args[0])); {
		case name == "GET" && len(args) == 2:
			store.RLock()
			v, ok := store.m[string(args[1])]
			store.RUnlock()
			if !ok {
				w.WriteString("$-1\r\n")
				break
			}
			w.WriteByte('$')
			w.WriteString(strconv.Itoa(len(v)))
			w.WriteString("\r\n")
			w.Write(v)
			w.WriteString("\r\n")
		case name == "SET" && len(args) == 3:
			store.Lock()
			store.m[string(args[1])] = args[2]
			store.Unlock()
			w.WriteString("+OK\r\n")
		case name == "CONFIG":
			w.WriteString("*0\r\n")
		default:
			w.WriteString("-ERR unknown command\r\n")
		}
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
	}
}
