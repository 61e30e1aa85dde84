/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Twins of mote-bench on CAF 0.17 or 0.18 event-based actors, one scheduler thread. usage: bench NAME */
#include "../peer.h"

#include <caf/all.hpp>
#include <memory>
#include <string>
#include <vector>

#if CAF_VERSION >= 1800
#error "written against CAF 0.17; 0.18 wants type ids"
#endif

using go_atom = caf::atom_constant<caf::atom("go")>;

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(payload)

using caf::actor;
using caf::actor_cast;
using caf::behavior;
using caf::event_based_actor;

static constexpr int batch = 1000, procs = 1000, each = 1000, million = 1000000;

static behavior pong(event_based_actor *self)
{
	return { [self](const payload &p) {
		self->send(actor_cast<actor>(self->current_sender()), payload_of(seed_of(&p) + 1));
	} };
}

static behavior ping(event_based_actor *self, actor peer, actor top, uint64_t n)
{
	auto left = std::make_shared<uint64_t>(n);

	self->send(peer, payload_of(n));
	return { [=](const payload &p) {
		peer_check(seed_of(&p) == *left + 1, "the pong is right");
		if (--*left == 0) {
			self->send(top, true);
			self->quit();
			return;
		}
		self->send(peer, payload_of(*left));
	} };
}

static behavior hop(event_based_actor *, actor);

static behavior first_hop(event_based_actor *self, actor top)
{
	auto next = std::make_shared<actor>();

	return { [=](actor a) { *next = a; },
		 [=](const payload &p) {
			uint64_t left = seed_of(&p);

			if (left == 0)
				self->send(top, true);
			else
				self->send(*next, payload_of(left - 1));
		} };
}

/* The number of hops is a multiple of the ring's size: the token ends at the first. */
static behavior hop(event_based_actor *self, actor next)
{
	return { [=](const payload &p) { self->send(next, payload_of(seed_of(&p) - 1)); } };
}

static behavior leaf(event_based_actor *self, actor top)
{
	self->send(top, true);
	return {};
}

static behavior idle(event_based_actor *)
{
	return { [](go_atom) {} };
}

static behavior sender(event_based_actor *self, actor to)
{
	return { [=](go_atom) {
		for (int i = 0; i < each; i++)
			self->send(to, payload_of(i));
	} };
}

static behavior counter(event_based_actor *self, actor top, int n)
{
	auto seen = std::make_shared<int>(0);

	return { [=](const payload &p) {
		seed_of(&p);
		if (++*seen == n) {
			*seen = 0;
			self->send(top, true);
		}
	} };
}

static behavior branch(event_based_actor *self, actor parent, int64_t number, int64_t size)
{
	if (size == 1) {
		self->send(parent, number);
		return {};
	}
	for (int i = 0; i < 10; i++)
		self->spawn(branch, actor_cast<actor>(self), number + i * (size / 10), size / 10);
	auto seen = std::make_shared<std::pair<int, int64_t>>(0, 0);
	return { [=](int64_t v) {
		seen->second += v;
		if (++seen->first == 10) {
			self->send(parent, seen->second);
			self->quit();
		}
	} };
}

static void run(caf::actor_system &sys, const std::string &name)
{
	caf::scoped_actor self{sys};
	actor top = actor_cast<actor>(self);
	auto wait = [&](int n) {
		for (int i = 0; i < n; i++)
			self->receive([](bool) {});
	};
	auto rate = [&](double n, auto round) {
		round();
		peer_run r = peer_begin();
		do
			round();
		while (peer_more(&r, n));
		peer_end(&r, name.c_str());
	};

	if (name == "pingpong") {
		actor peer = sys.spawn(pong);

		rate(10 * batch, [&] {
			sys.spawn(ping, peer, top, (uint64_t)10 * batch);
			wait(1);
		});
	} else if (name == "ring") {
		actor first = sys.spawn(first_hop, top), next = first;

		for (int i = 1; i < procs; i++)
			next = sys.spawn(hop, next);
		self->send(first, next);
		rate(10 * procs, [&] {
			self->send(next, payload_of(10 * procs - 1));
			wait(1);
		});
	} else if (name == "fanin") {
		actor to = sys.spawn(counter, top, procs * each);
		std::vector<actor> senders;

		for (int i = 0; i < procs; i++)
			senders.push_back(sys.spawn(sender, to));
		rate(procs * each, [&] {
			for (auto &s : senders)
				self->send(s, go_atom::value);
			wait(1);
		});
	} else if (name == "spawn") {
		rate(batch, [&] {
			for (int i = 0; i < batch; i++)
				sys.spawn(leaf, top);
			wait(batch);
		});
	} else if (name == "spawn_all") {
		peer_run r = peer_begin();

		for (int i = 0; i < million; i++)
			sys.spawn(leaf, top);
		wait(million);
		peer_more(&r, million);
		peer_end(&r, "spawn_all");
	} else if (name == "memory_server") {
		std::vector<actor> all(million);
		long long before = peer_rss();

		for (auto &a : all)
			a = sys.spawn(idle);
		usleep(500000);
		peer_figure("memory_server", (double)(peer_rss() - before) / million, "B", 0);
	} else if (name == "skynet") {
		peer_run r;

		for (int i = 0; i < 2; i++) {
			r = peer_begin();
			sys.spawn(branch, top, int64_t(0), int64_t(million));
			self->receive([](int64_t sum) {
				peer_check(sum == (int64_t)million * (million - 1) / 2, "the sum is right");
			});
		}
		peer_figure("skynet", (peer_clock(CLOCK_MONOTONIC) - r.wall) / 1e6, "ms",
			    (peer_clock(CLOCK_PROCESS_CPUTIME_ID) - r.cpu) / 1e6);
	} else if (name == "version") {
		printf("CAF %d.%d.%d\n", CAF_VERSION / 10000, CAF_VERSION / 100 % 100, CAF_VERSION % 100);
	} else {
		_exit(2);
	}
	fflush(stdout);
	_exit(0);
}

int main(int argc, char **argv)
{
	caf::actor_system_config config;

	config.set("scheduler.max-threads", 1);
	caf::actor_system sys{config};

	run(sys, argc == 2 ? argv[1] : "");
}
