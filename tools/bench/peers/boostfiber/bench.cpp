/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Twins of mote-bench on Boost.Fiber, one thread; stacks of 16 KiB from a pool. usage: bench NAME */
#include "../peer.h"

#include <boost/fiber/all.hpp>
#include <boost/version.hpp>
#include <memory>
#include <string>
#include <vector>

namespace bf = boost::fibers;

using channel = bf::buffered_channel<payload>;

static constexpr int batch = 1000, procs = 1000, each = 1000, million = 1000000;

static bf::pooled_fixedsize_stack stacks(16384);

template <class F> static bf::fiber start(F f)
{
	return bf::fiber(bf::launch::post, std::allocator_arg, stacks, f);
}

static void pingpong()
{
	bf::unbuffered_channel<payload> a, b;
	uint64_t seed = 0;

	start([&] {
		payload p;

		while (a.pop(p) == bf::channel_op_status::success)
			b.push(payload_of(seed_of(&p) + 1));
	}).detach();
	auto round = [&] {
		for (int i = 0; i < batch; i++) {
			payload p;

			a.push(payload_of(seed));
			b.pop(p);
			peer_check(seed_of(&p) == ++seed, "the pong is right");
		}
	};
	for (int i = 0; i < 10; i++)
		round();
	peer_run run = peer_begin();
	do
		round();
	while (peer_more(&run, batch));
	peer_end(&run, "pingpong");
}

static void ring()
{
	std::vector<std::unique_ptr<channel>> chans;
	channel done{2};

	for (int i = 0; i < procs; i++)
		chans.emplace_back(new channel(2));
	for (int i = 0; i < procs; i++) {
		start([&, i] {
			payload p;

			while (chans[i]->pop(p) == bf::channel_op_status::success) {
				uint64_t left = seed_of(&p);

				(left ? *chans[(i + 1) % procs] : done).push(payload_of(left - 1));
			}
		}).detach();
	}
	auto turn = [&] {
		payload p;

		chans[0]->push(payload_of(10 * procs - 1));
		done.pop(p);
		peer_check(p.word[0] == (uint64_t)-1, "the token made all its hops");
	};
	turn();
	peer_run run = peer_begin();
	do
		turn();
	while (peer_more(&run, 10 * procs));
	peer_end(&run, "ring");
	_exit(0);
}

static void flood()
{
	constexpr int burst = 100000;
	channel data{1024};

	start([&] {
		for (;;) {
			for (int i = 0; i < burst; i++)
				data.push(payload_of(i));
		}
	}).detach();
	auto round = [&] {
		for (uint64_t i = 0; i < burst; i++) {
			payload p;

			data.pop(p);
			peer_check(seed_of(&p) == i, "the messages come whole and in order");
		}
	};
	round();
	peer_run run = peer_begin();
	do
		round();
	while (peer_more(&run, burst));
	peer_end(&run, "flood");
	_exit(0);
}

static void fanin()
{
	channel data{1024};
	peer_run run = peer_begin();

	do {
		uint64_t sum = 0;

		for (int i = 0; i < procs; i++) {
			start([&] {
				for (int j = 0; j < each; j++)
					data.push(payload_of(j));
			}).detach();
		}
		for (int i = 0; i < procs * each; i++) {
			payload p;

			data.pop(p);
			sum += seed_of(&p);
		}
		peer_check(sum == (uint64_t)procs * each * (each - 1) / 2, "all messages came");
	} while (peer_more(&run, procs * each));
	peer_end(&run, "fanin");
}

static void spawn()
{
	peer_run run = peer_begin();

	do {
		std::vector<bf::fiber> fibers;
		long ran = 0;

		fibers.reserve(batch);
		for (int i = 0; i < batch; i++)
			fibers.push_back(start([&] { ran++; }));
		for (auto &f : fibers)
			f.join();
		peer_check(ran == batch, "all have run");
	} while (peer_more(&run, batch));
	peer_end(&run, "spawn");
}

static void memory()
{
	constexpr int n = 100000;
	bf::unbuffered_channel<int> never;
	long ready = 0;
	long long before = peer_rss();

	for (int i = 0; i < n; i++) {
		start([&] {
			int x;

			ready++;
			never.pop(x);
		}).detach();
	}
	boost::this_fiber::yield();
	peer_check(ready == n, "all are there");
	peer_figure("memory_stackful", (double)(peer_rss() - before) / n, "B", 0);
	_exit(0);
}

static int64_t branch(int64_t number, int64_t size)
{
	bf::buffered_channel<int64_t> children{16};
	int64_t sum = 0;

	if (size == 1)
		return number;
	for (int i = 0; i < 10; i++)
		start([&, i] { children.push(branch(number + i * (size / 10), size / 10)); }).detach();
	for (int i = 0; i < 10; i++)
		sum += children.value_pop();
	return sum;
}

/* The second tree is measured: the memory is there. */
static void skynet()
{
	constexpr int64_t expected = (int64_t)million * (million - 1) / 2;

	peer_check(branch(0, million) == expected, "the sum is right");
	peer_run run = peer_begin();
	peer_check(branch(0, million) == expected, "the sum is right");
	peer_figure("skynet", (peer_clock(CLOCK_MONOTONIC) - run.wall) / 1e6, "ms",
		    (peer_clock(CLOCK_PROCESS_CPUTIME_ID) - run.cpu) / 1e6);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)();
	} all[] = {
		{ "pingpong", pingpong }, { "ring", ring }, { "flood", flood }, { "fanin", fanin },
		{ "spawn", spawn }, { "memory_stackful", memory }, { "skynet", skynet },
		{ "version", [] { printf("Boost.Fiber %s\n", BOOST_LIB_VERSION); } },
	};

	for (auto &b : all) {
		if (argc == 2 && b.name == std::string(argv[1])) {
			b.run();
			fflush(stdout);
			_exit(0);
		}
	}
	return 2;
}
