// SPDX-License-Identifier: MIT OR GPL-2.0

package main

import "sync"

type member struct{ id uint64 }

const registryKeys = 1000

// Who has a key: a sync.Map, Go's for keys that are read by many and seldom change.
func registryLookup() {
	var registry sync.Map
	self := &member{1}
	for key := uint64(0); key < registryKeys; key++ {
		registry.Store(key, self)
	}
	c := begin()
	for {
		found := 0
		for key := uint64(0); key < registryKeys; key++ {
			if who, ok := registry.Load(key); ok && who.(*member) == self {
				found++
			}
		}
		check(found == registryKeys, "each key is found")
		if !c.more(registryKeys) {
			break
		}
	}
	c.end("registry_lookup")
}

// A goroutine takes the key, is found, and leaves; its end takes the key away.
func registryEnter() {
	var registry sync.Map
	c := begin()
	for {
		for i := 0; i < 100; i++ {
			over := make(chan struct{})
			go func() {
				defer close(over)
				self := &member{1}
				_, taken := registry.LoadOrStore("guest", self)
				check(!taken, "the key is free")
				defer registry.Delete("guest")
				who, ok := registry.Load("guest")
				check(ok && who.(*member) == self, "the guest is found")
			}()
			<-over
			_, there := registry.Load("guest")
			check(!there, "the guest is forgotten")
		}
		if !c.more(100) {
			break
		}
	}
	c.end("registry_enter")
}
