%% SPDX-License-Identifier: MIT OR GPL-2.0
%%
%% Twins of mote-bench in Erlang: one run of the benchmark that the argument names, or the server "echo".
%% Schedulers and CPUs are set from outside. Messages carry a 64-byte binary, built by each sender and looked at
%% by each receiver (at that size a binary is copied with the message).
-module(peers).
-export([main/1, init/1, handle_call/3, handle_cast/2, resume/1]).

-define(BATCH, 1000).
-define(PROCS, 1000).
-define(EACH, 1000).
-define(BURST, 100000).
-define(MILLION, 1000000).

main([Name]) ->
    {P, R} = spawn_opt(fun() -> bench(Name) end,
                       [monitor, {message_queue_data, off_heap}]),
    receive
        {'DOWN', R, process, P, normal} -> erlang:halt(0);
        {'DOWN', R, process, P, Why} ->
            io:format(standard_error, "~s failed: ~p~n", [Name, Why]),
            erlang:halt(1)
    end.

bench("pingpong") -> pingpong();
bench("ring") -> ring();
bench("flood") -> flood();
bench("fanin") -> fanin();
bench("spawn") -> spawn_waves();
bench("spawn_all") -> spawn_all();
bench("spawn_parked") -> spawn_parked();
bench("spawn_monitor") -> monitors();
bench("memory_server") -> memory("memory_server", fun idle_server/1);
bench("memory_stackful") -> memory("memory_stackful", fun idle_process/1);
bench("receive_ref") -> receive_ref();
bench("timer_cancel") -> timer_cancel();
bench("timer_late") -> timer_late();
bench("skynet") -> skynet();
bench("calls") -> calls();
bench("call") -> call();
bench("cast") -> cast();
bench("supervise_exit") -> supervise();
bench("supervisor_exit") -> supervisor_exit();
bench("supervisor_tree") -> supervisor_tree();
bench("registry_lookup") -> registry_lookup();
bench("neighbour_" ++ Bad = Name) -> beside(Name, Bad);
bench("neighbours_" ++ Bad = Name) -> beside(Name, Bad);
bench("echo") -> echo();
bench("version") ->
    io:format("OTP ~s (erts ~s, ~p)~n", [erlang:system_info(otp_release),
              erlang:system_info(version), erlang:system_info(emu_flavor)]).

%% --- measuring

seconds() ->
    case os:getenv("BENCH_SECONDS") of
        false -> 0.25;
        S -> try list_to_float(S) catch error:badarg -> list_to_integer(S) end
    end.

now_ns() -> erlang:monotonic_time(nanosecond).

%% The VM's CPU time, in the kernel's ticks of 10 ms.
cpu_ns() ->
    {ok, Bin} = read_proc("/proc/self/stat"),
    [_, Rest] = binary:split(Bin, <<") ">>),
    F = binary:split(Rest, <<" ">>, [global]),
    (binary_to_integer(lists:nth(12, F)) + binary_to_integer(lists:nth(13, F))) * 10000000.

read_proc(Path) ->
    {ok, Fd} = file:open(Path, [read, raw, binary]),
    R = file:read(Fd, 4096),
    ok = file:close(Fd),
    R.

resident() ->
    {ok, Bin} = read_proc("/proc/self/statm"),
    [_, Pages | _] = binary:split(Bin, <<" ">>, [global]),
    binary_to_integer(Pages) * 4096.

figure(Name, V, Unit, Cpu) ->
    F = float(V),
    io:format("~s ~.2f ~s min ~.2f median ~.2f max ~.2f cpu ~.2f runs 1~n",
              [Name, F, Unit, F, F, F, float(Cpu)]).

%% Runs Round, which does N operations, until a run has lasted long enough.
rate(Name, N, Round) ->
    C0 = cpu_ns(),
    T0 = now_ns(),
    Ops = repeat(N, Round, T0 + round(seconds() * 1.0e9), 0),
    T = now_ns() - T0,
    figure(Name, T / Ops, "ns", (cpu_ns() - C0) / Ops),
    T / Ops.

repeat(N, Round, Until, Ops) ->
    Round(),
    case now_ns() < Until of
        true -> repeat(N, Round, Until, Ops + N);
        false -> Ops + N
    end.

payload(S) -> <<S:64, (S+1):64, (S+2):64, (S+3):64, (S+4):64, (S+5):64, (S+6):64, (S+7):64>>.

%% The seed of a payload whose eight words are as written.
seed(<<S:64, A:64, B:64, C:64, D:64, E:64, F:64, G:64>>)
  when A =:= S + 1, B =:= S + 2, C =:= S + 3, D =:= S + 4, E =:= S + 5, F =:= S + 6, G =:= S + 7 -> S.

repeat(0, _) -> ok;
repeat(N, F) -> F(), repeat(N - 1, F).

%% --- names

%% Who has a key: a table, as Erlang's own libraries do it.
registry_lookup() ->
    T = ets:new(registry, [set, named_table, protected, {read_concurrency, true}]),
    [ets:insert(T, {K, self()}) || K <- lists:seq(1, 1000)],
    rate("registry_lookup", 1000, fun() -> 1000 = found(1000, self(), 0) end).

found(0, _, N) -> N;
found(K, Self, N) ->
    case ets:lookup(registry, K) of
        [{K, Self}] -> found(K - 1, Self, N + 1);
        _ -> found(K - 1, Self, N)
    end.

%% --- messages

pingpong() ->
    Pong = spawn_link(fun pong/0),
    ping(10 * ?BATCH, Pong),
    rate("pingpong", ?BATCH, fun() -> ping(?BATCH, Pong) end).

ping(0, _) -> ok;
ping(N, Pong) ->
    Pong ! {self(), payload(N)},
    receive {Pong, B} -> N = seed(B) - 1 end,
    ping(N - 1, Pong).

pong() ->
    receive {From, B} -> From ! {self(), payload(seed(B) + 1)} end,
    pong().

ring() ->
    Top = self(),
    First = spawn_link(fun() -> receive {next, P} -> hop(P, Top) end end),
    Last = lists:foldl(fun(_, Next) -> spawn_link(fun() -> hop(Next, Top) end) end,
                       First, lists:seq(2, ?PROCS)),
    First ! {next, Last},
    Turn = fun() -> Last ! payload(10 * ?PROCS - 1), receive done -> ok end end,
    Turn(),
    rate("ring", 10 * ?PROCS, Turn).

hop(Next, Top) ->
    receive
        B ->
            case seed(B) of
                0 -> Top ! done;
                N -> Next ! payload(N - 1)
            end
    end,
    hop(Next, Top).

flood() ->
    To = self(),
    Sender = spawn_link(fun() -> flood_sender(To) end),
    Round = fun() -> Sender ! go, take_in_order(0) end,
    Round(),
    rate("flood", ?BURST, Round).

flood_sender(To) ->
    receive go -> send_to(To, 0, ?BURST) end,
    flood_sender(To).

take_in_order(?BURST) -> ok;
take_in_order(I) -> receive B -> I = seed(B), take_in_order(I + 1) end.

send_to(_, N, N) -> ok;
send_to(To, I, N) -> To ! payload(I), send_to(To, I + 1, N).

fanin() ->
    To = self(),
    Senders = [spawn_link(fun() -> fanin_sender(To) end) || _ <- lists:seq(1, ?PROCS)],
    Expected = ?PROCS * ?EACH * (?EACH - 1) div 2,
    Round = fun() ->
        [S ! go || S <- Senders],
        Expected = take_any(?PROCS * ?EACH, 0)
    end,
    Round(),
    rate("fanin", ?PROCS * ?EACH, Round).

fanin_sender(To) ->
    receive go -> send_to(To, 0, ?EACH) end,
    fanin_sender(To).

take_any(0, Sum) -> Sum;
take_any(N, Sum) -> receive B -> take_any(N - 1, Sum + seed(B)) end.

%% --- lives of processes

spawn_waves() ->
    repeat(10, fun() -> wave(?BATCH) end),
    rate("spawn", ?BATCH, fun() -> wave(?BATCH) end).

wave(N) ->
    Self = self(),
    F = fun() -> Self ! done end,
    repeat(N, fun() -> spawn(F) end),
    take_done(N).

take_done(0) -> ok;
take_done(N) -> receive done -> take_done(N - 1) end.

once(Name, N, F) ->
    C0 = cpu_ns(),
    T0 = now_ns(),
    R = F(),
    figure(Name, (now_ns() - T0) / N, "ns", (cpu_ns() - C0) / N),
    R.

spawn_all() -> once("spawn_all", ?MILLION, fun() -> wave(?MILLION) end).

%% A counter tells when all are there: a million messages would be measured, too.
spawn_parked() ->
    C = counters:new(1, []),
    F = fun() -> counters:add(C, 1, 1), receive stop -> ok end end,
    Before = erlang:system_info(process_count),
    once("spawn_parked", ?MILLION, fun() -> repeat(?MILLION, fun() -> spawn(F) end), await(C) end),
    true = erlang:system_info(process_count) >= Before + ?MILLION.

await(C) ->
    case counters:get(C, 1) of
        ?MILLION -> ok;
        _ -> timer:sleep(1), await(C)
    end.

monitors() ->
    Round = fun() -> repeat(?BATCH, fun one_monitor/0) end,
    repeat(10, Round),
    rate("spawn_monitor", ?BATCH, Round).

one_monitor() ->
    {P, R} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', R, process, P, normal} -> ok end.

%% A hibernated process keeps nothing but its state; the plain one keeps its first heap.
idle_server(C) -> counters:add(C, 1, 1), erlang:hibernate(?MODULE, resume, [{0, 0}]).
idle_process(C) -> counters:add(C, 1, 1), receive stop -> ok end.
resume(_) -> ok.

memory(Name, F) ->
    C = counters:new(1, []),
    Before = resident(),
    repeat(?MILLION, fun() -> spawn(fun() -> F(C) end) end),
    await(C),
    timer:sleep(200),
    figure(Name, (resident() - Before) / ?MILLION, "B", 0),
    true = erlang:system_info(process_count) > ?MILLION.

%% --- calls

init([]) -> {ok, 0};
init({worker, Client}) -> Client ! {here, self()}, {ok, 0};
init({supervisor, Flags, Children}) -> {ok, {Flags, Children}}.
handle_call(B, _From, S) -> {reply, payload(seed(B)), S}.
handle_cast(exit, S) -> {stop, told_to, S};
handle_cast(B, S) -> S = seed(B), {noreply, S + 1}.

call(Server, N, Timeout) ->
    N = seed(gen_server:call(Server, payload(N), Timeout)).

calls_n(Server, N) -> calls_n(Server, N, infinity).
calls_n(_, 0, _) -> ok;
calls_n(Server, N, Timeout) -> call(Server, N, Timeout), calls_n(Server, N - 1, Timeout).

%% gen_server:call with others in the mailbox before, as multiples of one with an empty mailbox. Others that arrive
%% between a request and its answer are not measured: Erlang then scans all of them.
receive_ref() ->
    {ok, S} = gen_server:start_link(?MODULE, [], []),
    Round = fun() -> calls_n(S, 100) end,
    Base = rate("receive_ref", 100, Round),
    fill(10000),
    Round(),
    figure("receive_ref_before_10k", rate_only(100, Round) / Base, "x", 0),
    fill(990000),
    Round(),
    figure("receive_ref_before_1m", rate_only(100, Round) / Base, "x", 0).

rate_only(N, Round) ->
    T0 = now_ns(),
    Ops = repeat(N, Round, T0 + round(seconds() * 1.0e9), 0),
    (now_ns() - T0) / Ops.

fill(0) -> ok;
fill(N) -> self() ! {other, payload(N)}, fill(N - 1).

call() ->
    {ok, S} = gen_server:start_link(?MODULE, [], []),
    Round = fun() -> calls_n(S, ?BATCH, 5000) end,
    repeat(10, Round),
    rate("call", ?BATCH, Round).

cast() ->
    {ok, S} = gen_server:start_link(?MODULE, [], []),
    put(seed, 0),
    rate("cast", ?BATCH, fun() ->
        From = get(seed),
        casts_n(S, From, From + ?BATCH),
        put(seed, From + ?BATCH),
        call(S, From, 5000)
    end).

casts_n(_, N, N) -> ok;
casts_n(S, I, N) -> gen_server:cast(S, payload(I)), casts_n(S, I + 1, N).

calls() ->
    rate("calls", ?PROCS * ?EACH, fun() ->
        Self = self(),
        repeat(?PROCS, fun() -> spawn_link(fun() ->
            {ok, S} = gen_server:start_link(?MODULE, [], []),
            calls_n(S, ?EACH),
            gen_server:stop(S),
            Self ! done end) end),
        take_done(?PROCS)
    end).

%% --- timers

timer_cancel() ->
    Round = fun() ->
        Refs = [erlang:send_after(5000, self(), tick) || _ <- lists:seq(1, ?BATCH)],
        [true = is_integer(erlang:cancel_timer(R)) || R <- Refs]
    end,
    repeat(10, Round),
    rate("timer_cancel", ?BATCH, Round).

%% All are set before the first is due, in no order, spread over 100 ms; Erlang's timers count whole milliseconds.
timer_late() ->
    rand:seed(exsss, {1, 2, 3}),
    N = 10000,
    First = erlang:monotonic_time(millisecond) + 50,
    [begin
         Due = First + rand:uniform(100),
         erlang:send_after(Due, self(), {due, Due * 1000}, [{abs, true}])
     end || _ <- lists:seq(1, N)],
    Late = lists:sort(take_late(N, [])),
    true = hd(Late) >= 0,
    figure("timer_late_p50", lists:nth(N div 2, Late), "us", 0),
    figure("timer_late_p99", lists:nth(N * 99 div 100, Late), "us", 0).

take_late(0, Late) -> Late;
take_late(N, Late) ->
    receive {due, Due} -> take_late(N - 1, [erlang:monotonic_time(microsecond) - Due | Late]) end.

%% --- skynet

%% The second tree is measured: the memory is there.
skynet() ->
    tree(),
    C0 = cpu_ns(),
    T0 = now_ns(),
    tree(),
    figure("skynet", (now_ns() - T0) / 1.0e6, "ms", (cpu_ns() - C0) / 1.0e6).

tree() ->
    Self = self(),
    spawn(fun() -> branch(Self, 0, ?MILLION) end),
    receive Sum -> Sum = ?MILLION * (?MILLION - 1) div 2 end.

branch(Parent, Number, 1) -> Parent ! Number;
branch(Parent, Number, Size) ->
    grow(self(), Number, Size div 10, 10),
    Parent ! add(10, 0).

grow(_, _, _, 0) -> ok;
grow(Self, Number, Size, K) ->
    spawn(fun() -> branch(Self, Number, Size) end),
    grow(Self, Number + Size, Size, K - 1).

add(0, Sum) -> Sum;
add(N, Sum) -> receive X -> add(N - 1, Sum + X) end.

%% --- what ends badly

%% By hand, as mote's twin: a monitor and a loop. The library's supervisor does more.
supervise() ->
    erlang:process_flag(trap_exit, true),
    put(worker, start_worker(0)),
    rate("supervise_exit", 100, fun() -> repeat(100, fun replace_worker/0) end).

start_worker(N) ->
    {P, R} = spawn_monitor(fun worker/0),
    call(P, N, 5000),
    {P, R, N}.

replace_worker() ->
    {P, R, N} = get(worker),
    P ! exit,
    receive {'DOWN', R, process, P, told_to} -> ok end,
    put(worker, start_worker(N + 1)).

worker() ->
    receive
        {'$gen_call', From, B} -> gen_server:reply(From, payload(seed(B))), worker();
        exit -> exit(told_to)
    end.

%% With the library's supervisor. It keeps the times of its restarts in a list, so that one sees a hundred of them at most.
supervisor_exit() ->
    logger:set_primary_config(level, none),
    put(seed, 0),
    Child = #{id => worker, start => {gen_server, start_link, [?MODULE, {worker, self()}, []]}},
    rate("supervisor_exit", 100, fun() ->
        {ok, S} = supervisor:start_link(?MODULE, {supervisor, #{intensity => 200, period => 5}, [Child]}),
        Last = lists:foldl(fun(_, P) -> gen_server:cast(P, exit), next_worker() end, next_worker(),
                           lists:seq(1, 100)),
        gen_server:stop(S),
        false = is_process_alive(Last) end).

next_worker() ->
    N = get(seed),
    put(seed, N + 1),
    receive {here, P} -> call(P, N, 5000), P end.

supervisor_tree() ->
    logger:set_primary_config(level, none),
    Leaves = [#{id => I, start => {gen_server, start_link, [?MODULE, [], []]}} || I <- lists:seq(1, 100)],
    Inner = [#{id => I, type => supervisor,
               start => {supervisor, start_link, [?MODULE, {supervisor, #{}, Leaves}]}} || I <- lists:seq(1, 100)],
    rate("supervisor_tree", 10000, fun() ->
        {ok, S} = supervisor:start_link(?MODULE, {supervisor, #{}, Inner}),
        true = erlang:system_info(process_count) > 10100,
        gen_server:stop(S),
        true = erlang:system_info(process_count) < 100 end).

%% --- neighbours: every millisecond a call is due; measured is how late its answer is there.

beside(Name, Bad) ->
    {ok, S} = gen_server:start_link(?MODULE, [], []),
    calls_n(S, 10),
    Start = erlang:monotonic_time(millisecond) + 1,
    N = round(seconds() * 8000),
    Before = [late(S, Start + I, I) || I <- lists:seq(1, N div 10)],
    repeat(erlang:system_info(schedulers), fun() -> bad(Bad) end),
    Late = lists:sort(Before ++ [late(S, Start + I, I) || I <- lists:seq(N div 10 + 1, N)]),
    true = hd(Late) >= 0,
    [figure(Name ++ "_" ++ Q, lists:nth(min(N, trunc(Share * N) + 1), Late) / 1000, "us", 0)
     || {Q, Share} <- [{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}]].

late(S, Due, I) ->
    erlang:send_after(Due, self(), tick, [{abs, true}]),
    receive tick -> ok end,
    call(S, I, infinity),
    erlang:monotonic_time(nanosecond) - Due * 1000000.

bad("nobody") -> ok;
bad("hog") -> spawn_link(fun hog/0);
bad("blocker") -> spawn_link(fun blocker/0);
bad("crashes") -> spawn_link(fun crash_loop/0).

hog() -> hog().

%% A read that blocks for ten milliseconds in the kernel. File operations run on schedulers of their own, as everything
%% that is known to block does in Erlang.
blocker() ->
    Path = string:trim(os:cmd("mktemp -u")),
    [] = os:cmd("mkfifo " ++ Path),
    Mode = [read, write, raw, binary, skip_type_check],
    {ok, Fd} = prim_file:open(Path, Mode),
    spawn_link(fun() -> {ok, Other} = prim_file:open(Path, Mode), feed(Other) end),
    block(Fd).

block(Fd) -> {ok, <<_>>} = prim_file:read(Fd, 1), block(Fd).

feed(Fd) -> timer:sleep(10), ok = prim_file:write(Fd, <<0>>), feed(Fd).

crash_loop() ->
    {P, R} = spawn_monitor(fun() -> exit(crash) end),
    receive {'DOWN', R, process, P, crash} -> ok end,
    crash_loop().

%% --- a TCP echo server, one process per connection

echo() ->
    {ok, L} = gen_tcp:listen(0, [binary, {active, false}, {backlog, 1024}, {nodelay, true}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(L),
    io:format("port ~w~n", [Port]),
    accept(L).

accept(L) ->
    {ok, S} = gen_tcp:accept(L),
    P = spawn(fun() -> receive go -> inet:setopts(S, [{active, 100}]), connection(S) end end),
    ok = gen_tcp:controlling_process(S, P),
    P ! go,
    accept(L).

connection(S) ->
    receive
        {tcp, S, B} -> gen_tcp:send(S, B), connection(S);
        {tcp_passive, S} -> inet:setopts(S, [{active, 100}]), connection(S);
        {tcp_closed, S} -> ok
    end.
