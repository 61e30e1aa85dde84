%% SPDX-License-Identifier: MIT OR GPL-2.0
%%
%% Plays scenarios on the BEAM: play.c's twin. One virtual machine for all of them:
%%	erl +S 2 -noshell -run play main MODULE
%% reads lines "SEED SCENARIOS OUTCOMES" (two names of files), has the module (this one, or trees) play all scenarios
%% of the one at once, writes the other, and prints "done".
-module(play).
-export([main/1, play/2, actor/4]).

-record(actor, {play, self, steps, pids, refs = #{}, timers = #{}, asked = none}).

main([Module]) ->
	logger:set_primary_config(level, none),
	jobs(list_to_atom(Module)).

jobs(Module) ->
	case io:get_line("") of
		eof -> halt(0);
		Line ->
			[Seed, In, Out] = string:lexemes(Line, " \n"),
			{ok, Text} = file:read_file(In),
			Lines = [string:lexemes(L, " ") || L <- string:lexemes(binary_to_list(Text), "\n")],
			ok = file:write_file(Out, Module:play(Lines, list_to_integer(Seed))),
			io:put_chars("done\n"),
			jobs(Module)
	end.

play(Lines, Seed) ->
	ets:new(seen, [named_table, public, ordered_set]),
	ets:new(pids, [named_table, public]),
	ets:new(timers, [named_table, public, bag]),
	ets:new(timed, [named_table, public]),
	register(first, self()),
	Plays = scenarios(Lines),
	play_all(Plays, Seed),
	Outcomes = [outcome(P) || P <- Plays],
	[ets:delete(T) || T <- [seen, pids, timers, timed]],
	unregister(first),
	Outcomes.

%% --- reading ---

%% {Id, NrProcs, #{Process => [Step]}, #{Child => Spawner}}
scenarios([]) -> [];
scenarios([["scenario", Id, N] | Lines]) ->
	{Body, [_ | Rest]} = lists:splitwith(fun(L) -> L =/= ["end"] end, Lines),
	Steps = [{process(P), list_to_atom(Op), [word(W) || W <- Words]} || [P, Op | Words] <- Body],
	Procs = lists:seq(0, list_to_integer(N) - 1),
	[{list_to_integer(Id), Procs,
	  maps:from_list([{P, [{Op, Args} || {Q, Op, Args} <- Steps, Q =:= P]} || P <- Procs]), spawners(Steps)} |
	 scenarios(Rest)].

spawners(Steps) ->
	maps:from_list([{Child, P} || {P, Op, [{p, Child} | _]} <- Steps, spawns(Op)]).

spawns(Op) -> Op =:= task orelse Op =:= spawn orelse Op =:= spawn_link orelse Op =:= spawn_monitor.

process([$p | N]) -> list_to_integer(N).

word([$p, N]) -> {p, N - $0};
word([$r, N]) -> {r, N - $0};
word(Word) -> list_to_atom(Word).

%% --- the first process ---

play_all(Plays, Seed) ->
	Parents = maps:from_list([{Id, Spawners} || {Id, _, _, Spawners} <- Plays]),
	Watches = maps:from_list(lists:append([begin_play(P, Seed) || P <- Plays])),
	[ets:lookup_element(pids, {Id, P}, 2) ! go || {Id, Procs, _, Spawners} <- Plays, P <- Procs,
	 not is_map_key(P, Spawners)],
	watch(Watches, Parents, 0).

begin_play({Id, Procs, Steps, Spawners}, Seed) ->
	ets:insert(pids, {{steps, Id}, Steps}),
	[begin
		{Pid, Ref} = spawn_monitor(play, actor, [Id, P, Seed, root]),
		ets:insert(pids, [{{Id, P}, Pid}, {Pid, P}]),
		{Ref, {Id, P, Pid}}
	end || P <- Procs, not is_map_key(P, Spawners)].

%% Watches: those that are not over.
watch(Watches, _, _) when map_size(Watches) =:= 0 -> ok;
watch(Watches, Parents, Ticks) ->
	receive
		{born, Id, P, Pid} ->
			ets:insert(pids, [{{Id, P}, Pid}, {Pid, P}]),
			Ref = monitor(process, Pid),
			Pid ! go,
			ets:lookup_element(pids, {Id, maps:get(P, maps:get(Id, Parents))}, 2) ! ack,
			watch(Watches#{Ref => {Id, P, Pid}}, Parents, Ticks);
		{'DOWN', Ref, process, _, Reason} ->
			{{Id, P, _}, Rest} = maps:take(Ref, Watches),
			Spawned = is_map_key(P, maps:get(Id, Parents)),
			%% It had ended before: why is not known.
			End = case reason(Reason) of "noproc" when Spawned -> "?"; R -> R end,
			ets:insert(seen, {{Id, P, -1}, End}),
			watch(Rest, Parents, Ticks)
	after 1 ->
		case settled(Watches) of
			true when Ticks > 80 ->
				[ets:insert(seen, {{Id, P, -1}, "stuck"}) || {Id, P, _} <- maps:values(Watches)];
			true ->
				tick(lists:sort(maps:values(Watches))),
				watch(Watches, Parents, Ticks + 1);
			false ->
				watch(Watches, Parents, Ticks)
		end
	end.

%% The first of each scenario.
tick([{Id, _, Pid} | Rest]) ->
	Pid ! tick,
	tick(lists:dropwhile(fun({Other, _, _}) -> Other =:= Id end, Rest));
tick([]) -> ok.

%% Whether nothing moves: this is the only process that runs, on the only scheduler that does, and none is queued.
settled(Watches) ->
	erlang:system_flag(multi_scheduling, block),
	Quiet = erlang:statistics(run_queue) =:= 0 andalso lists:all(fun timer_done/1, ets:tab2list(timers)) andalso
		not lists:any(fun({Pid}) -> is_process_alive(Pid) end, ets:tab2list(timed)) andalso
		process_info(self(), message_queue_len) =:= {message_queue_len, 0} andalso
		lists:all(fun({_, _, P}) -> process_info(P, status) =:= {status, waiting} end,
			  maps:values(Watches)) andalso
		erlang:statistics(run_queue) =:= 0,
	erlang:system_flag(multi_scheduling, unblock),
	Quiet.

timer_done({Ref}) -> erlang:read_timer(Ref) =:= false.

outcome({Id, Procs, Steps, _}) ->
	[integer_to_list(Id),
	 [[" p", integer_to_list(P), ":", case ets:lookup(seen, {Id, P, -1}) of [{_, E}] -> E; [] -> "?" end,
	   [[" ", integer_to_list(K), "=", S] || K <- lists:seq(0, length(maps:get(P, Steps)) - 1),
	    {_, S} <- ets:lookup(seen, {Id, P, K})]] || P <- Procs],
	 "\n"].

%% --- a process of a scenario ---

actor(Id, P, Seed, How) ->
	rand:seed(exsss, {Seed, Id, P}),
	Answer = case How of task -> receive {task, Alias} -> Alias end; _ -> none end,
	How =:= root orelse (first ! {born, Id, P, self()}),
	receive go -> ok end,
	Steps = maps:get(P, ets:lookup_element(pids, {steps, Id}, 2)),
	lists:foldl(fun({Op, Args}, {K, A}) ->
		dawdle(rand:uniform(8)),
		{K + 1, step(Op, Args, K, A)}
	end, {0, #actor{play = Id, self = P}}, Steps),
	Answer =:= none orelse (Answer ! {task_answer, Answer}).

dawdle(1) -> erlang:yield();
dawdle(2) -> erlang:yield(), erlang:yield();
dawdle(3) -> spin(rand:uniform(500));
dawdle(4) -> spin(rand:uniform(5000));
dawdle(_) -> ok.

spin(0) -> ok;
spin(N) -> spin(N - 1).

pid(#actor{play = Id}, P) -> ets:lookup_element(pids, {Id, P}, 2).

name(#actor{play = Id}, Name) -> list_to_atom(atom_to_list(Name) ++ integer_to_list(Id)).

note(#actor{play = Id, self = P} = A, K, Seen) ->
	ets:insert(seen, {{Id, P, K}, Seen}),
	A.

yes(true) -> "yes";
yes(false) -> "no".

%% What says badarg says no.
try_yes(F) ->
	try F(), "yes" catch error:badarg -> "no" end.

make(A, Slot, Ref) -> A#actor{refs = (A#actor.refs)#{Slot => Ref}}.

ref(A, Slot) -> maps:get(Slot, A#actor.refs).

step(Op, [{p, P} | Args], _, A) when Op =:= spawn; Op =:= spawn_link; Op =:= spawn_monitor ->
	#actor{play = Id} = A,
	Made = erlang:Op(play, actor, [Id, P, rand:uniform(1 bsl 30), spawned]),
	receive ack -> ok end,
	case {Made, Args} of
		{{_, Ref}, [{r, Slot}]} -> make(A, Slot, Ref);
		_ -> A
	end;
step(task, [{p, P}, {r, Slot}], _, #actor{play = Id} = A) ->
	{Pid, Ref} = spawn_opt(play, actor, [Id, P, rand:uniform(1 bsl 30), task],
			       [link, {monitor, [{alias, reply_demonitor}, {tag, task_down}]}]),
	Pid ! {task, Ref},
	receive ack -> ok end,
	make(A, Slot, {Pid, Ref});
step(Op, [{r, Slot}], K, A) when Op =:= await; Op =:= yield; Op =:= shutdown ->
	case ref(A, Slot) of
		settled -> note(A, K, "none");
		{Pid, Ref} ->
			ets:insert(timed, {self()}),
			Seen = task_step(Op, Pid, Ref, rand:uniform(2) - 1),
			ets:delete(timed, self()),
			note(A, K, Seen),
			case Op =:= yield andalso Seen =:= "late" of
				true -> A;
				false -> make(A, Slot, settled)
			end
	end;
step(send, [{p, P}], K, A) ->
	pid(A, P) ! {m, A#actor.self, K, none},
	A;
step(send_name, [Name], K, A) ->
	note(A, K, try_yes(fun() -> name(A, Name) ! {m, A#actor.self, K, none} end));
step(ask, [{p, P}, {r, Slot}], K, A) ->
	pid(A, P) ! {m, A#actor.self, K, ref(A, Slot)},
	A;
step(answer, [], K, #actor{asked = Asked} = A) ->
	case Asked of
		none -> A;
		{from, From} ->
			gen:reply(From, {m, A#actor.self, K, none}),
			A#actor{asked = none};
		Alias ->
			Alias ! {m, A#actor.self, K, none},
			A
	end;
step(call, [{p, P}], K, A) ->
	ets:insert(timed, {self()}),
	Seen = try gen:call(pid(A, P), '$gen_call', {m, A#actor.self, K, none}, rand:uniform(3) - 1) of
		{ok, Reply} -> message(A, Reply)
	catch
		exit:timeout -> "late";
		exit:noproc -> "noproc";
		exit:_ -> "gone"
	end,
	ets:delete(timed, self()),
	note(A, K, Seen);
step(recv, [What], K, A) -> received(A, K, recv(A, What, infinity));
step(poll, [What], K, A) -> received(A, K, recv(A, What, 0));
step(wait, [What], K, A) ->
	ets:insert(timed, {self()}),
	Message = recv(A, What, rand:uniform(2) - 1),
	ets:delete(timed, self()),
	received(A, K, Message);
step(link, [{p, P}], _, A) ->
	%% To a process that is not there link/1 says so at once, unless exits are trapped. Here it is a signal like
	%% any other, behind those that are there already.
	try link(pid(A, P)) catch error:noproc -> exit(self(), noproc), receive after 0 -> ok end end,
	A;
step(unlink, [{p, P}], _, A) ->
	unlink(pid(A, P)),
	A;
step(monitor, [{p, P}, {r, Slot}], _, A) -> make(A, Slot, monitor(process, pid(A, P)));
step(monitor_name, [Name, {r, Slot}], _, A) -> make(A, Slot, monitor(process, name(A, Name)));
step(demonitor, [{r, Slot}], K, A) -> note(A, K, yes(demonitor(ref(A, Slot), [info])));
step(flush, [{r, Slot}], K, A) -> note(A, K, yes(demonitor(ref(A, Slot), [flush, info])));
step(alias, [{r, Slot}], _, A) -> make(A, Slot, alias([explicit_unalias]));
step(alias_once, [{r, Slot}], _, A) -> make(A, Slot, alias([reply]));
step(unalias, [{r, Slot}], K, A) -> note(A, K, yes(unalias(ref(A, Slot))));
step(trap, [], _, A) ->
	process_flag(trap_exit, true),
	A;
step(untrap, [], _, A) ->
	process_flag(trap_exit, false),
	A;
step(exit, [Reason], _, _) -> exit(term(Reason));
step(crash, [], _, _) -> error(crash);
step(signal, [{p, P}, Reason], _, A) ->
	exit(pid(A, P), term(Reason)),
	A;
step(register, [Name, {p, P}], K, A) -> note(A, K, try_yes(fun() -> register(name(A, Name), pid(A, P)) end));
step(unregister, [Name], K, A) -> note(A, K, try_yes(fun() -> unregister(name(A, Name)) end));
step(whereis, [Name], K, A) ->
	note(A, K, case whereis(name(A, Name)) of
		undefined -> "none";
		Pid -> ["p", proc(Pid)]
	end);
step(timer, [{p, P}, {r, Slot}], K, A) ->
	Timer = erlang:send_after(rand:uniform(3) - 1, pid(A, P), {m, A#actor.self, K, none}),
	ets:insert(timers, {Timer}),
	make(A, Slot, Timer);
step(cancel, [{r, Slot}], K, A) -> note(A, K, yes(erlang:cancel_timer(ref(A, Slot)) =/= false)).

%% As Elixir's Task does it; but await gives up and does not exit, as mote's.
task_step(shutdown, Pid, Ref, Time) ->
	unlink(Pid),
	Monitor = monitor(process, Pid),
	exit(Pid, shutdown),
	receive {'DOWN', Monitor, _, _, _} -> ok
	after Time ->
		exit(Pid, kill),
		receive {'DOWN', Monitor, _, _, _} -> ok end
	end,
	demonitor(Ref, [flush]),
	receive {task_answer, Ref} -> "yes" after 0 -> "no" end;
task_step(Op, Pid, Ref, Time) ->
	receive
		{task_answer, Ref} -> "yes";
		{task_down, Ref, _, _, _} -> "gone"
	after Time ->
		case Op of
			yield -> "late";
			await ->
				demonitor(Ref, [flush]),
				receive {task_answer, Ref} -> "yes"
				after 0 ->
					unlink(Pid),
					exit(Pid, timeout),
					"late"
				end
		end
	end.

%% The answers of tasks are for those that ask.
recv(_, any, Time) ->
	receive
		tick -> tick;
		M when element(1, M) =/= task_answer, element(1, M) =/= task_down -> M
	after Time -> none
	end;
recv(_, msg, Time) ->
	receive
		{m, _, _, _} = M -> M;
		{'$gen_call', _, _} = M -> M;
		tick -> tick
	after Time -> none
	end;
recv(_, exit, Time) -> receive {'EXIT', _, _} = M -> M; tick -> tick after Time -> none end;
recv(_, down, Time) -> receive {'DOWN', _, _, _, _} = M -> M; tick -> tick after Time -> none end;
recv(A, {r, Slot}, Time) ->
	Ref = ref(A, Slot),
	receive {'DOWN', Ref, _, _, _} = M -> M; tick -> tick after Time -> none end;
recv(_, {p, P}, Time) ->
	receive
		{m, P, _, _} = M -> M;
		{'$gen_call', _, {m, P, _, _}} = M -> M;
		tick -> tick
	after Time -> none
	end.

received(A, K, {'$gen_call', From, M}) -> note(A#actor{asked = {from, From}}, K, message(A, M));
received(A, K, {m, _, _, Alias} = M) when Alias =/= none -> note(A#actor{asked = Alias}, K, message(A, M));
received(A, K, M) -> note(A, K, message(A, M)).

message(_, tick) -> "tick";
message(_, none) -> "none";
message(_, {m, P, K, _}) -> ["m", integer_to_list(P), ".", integer_to_list(K)];
message(_, {'EXIT', Pid, Reason}) -> ["x", proc(Pid), ".", reason(Reason)];
message(A, {'DOWN', Ref, process, _, Reason}) ->
	[Slot | _] = [S || {S, R} <- maps:to_list(A#actor.refs), R =:= Ref],
	["d", integer_to_list(Slot), ".", reason(Reason)];
message(_, _) -> "odd".

proc(Pid) -> integer_to_list(ets:lookup_element(pids, Pid, 2)).

term(detail) -> {shutdown, 1};
term(error) -> {error, 5};
term(custom) -> {custom, 7};
term(Reason) -> Reason.

reason({shutdown, 1}) -> "detail";
reason({error, 5}) -> "error";
reason({custom, 7}) -> "custom";
reason({crash, Stack}) when is_list(Stack) -> "crash";
reason(Reason) when Reason =:= normal; Reason =:= shutdown; Reason =:= kill; Reason =:= killed; Reason =:= noproc;
		    Reason =:= timeout ->
	atom_to_list(Reason);
reason(_) -> "odd".
