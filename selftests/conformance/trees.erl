%% SPDX-License-Identifier: MIT OR GPL-2.0
%%
%% Plays trees of supervisors on the BEAM: trees.c's twin. docs/conformance.md has the language.
-module(trees).
-behaviour(supervisor).
-export([play/2, init/1, start_sup/2, start_child/2, child/4]).

play(Lines, _) ->
	ets:new(events, [named_table, public, ordered_set]),
	ets:new(now, [named_table, public]),
	Trees = trees(Lines),
	Drivers = [spawn_monitor(fun() -> drive(T) end) || T <- Trees],
	watch([Pid || {Pid, _} <- Drivers]),
	%% Ordered by when they were noted.
	Outcomes = [[N, [[" ", W] || [W] <- ets:match(events, {{N, '_'}, '$1'})], "\n"] || {N, _, _} <- Trees],
	[ets:delete(T) || T <- [events, now]],
	Outcomes.

%% {Number, Nodes, Steps}; a node: {Id, Words}
trees([]) -> [];
trees([["tree", N] | Lines]) ->
	{Body, [_ | Rest]} = lists:splitwith(fun(L) -> L =/= ["end"] end, Lines),
	[{N, [{Id, [Kind | Words]} || [Kind, Id | Words] <- Body, Kind =/= "do"], [Step || ["do" | Step] <- Body]} |
	 trees(Rest)].

%% Gives all that wait their next, whenever nothing moves.
watch([]) -> ok;
watch(Drivers) ->
	receive {'DOWN', _, process, Pid, _} -> watch(lists:delete(Pid, Drivers))
	after 1 ->
		%% Not to one that waits for a supervisor, which waits until a child's time is over.
		settled() andalso [D ! next || D <- Drivers, ets:take(now, {ready, D}) =/= []],
		watch(Drivers)
	end.

settled() ->
	erlang:system_flag(multi_scheduling, block),
	Quiet = erlang:statistics(run_queue) =:= 0 andalso
		process_info(self(), message_queue_len) =:= {message_queue_len, 0},
	erlang:system_flag(multi_scheduling, unblock),
	Quiet.

%% --- the parent of a tree's top supervisor ---

drive({N, Nodes, Steps} = Tree) ->
	process_flag(trap_exit, true),
	[{Top, _} | _] = Nodes,
	Sup = case start_sup(Tree, Top) of
		{ok, Pid} -> Pid;
		{error, _} -> event(N, "failed"), none
	end,
	snapshot(Tree),
	steps(Tree, Sup, Steps).

steps(_, none, _) -> ok;
steps({N, _, _} = Tree, Sup, Steps) ->
	receive {'EXIT', Sup, Reason} ->
		event(N, ["end.", reason(Reason)])
	after 0 ->
		case Steps of
			[] ->
				exit(Sup, shutdown),
				snapshot(Tree),
				steps(Tree, Sup, none);
			none ->
				event(N, "endless");
			[[Op, Id] = Step | Rest] ->
				event(N, ["|", Op, ".", Id]),
				step(Tree, Step),
				snapshot(Tree),
				steps(Tree, Sup, Rest);
			[[Op, Id, Reason] = Step | Rest] ->
				event(N, ["|", Op, ".", Id, ".", Reason]),
				step(Tree, Step),
				snapshot(Tree),
				steps(Tree, Sup, Rest)
		end
	end.

step({N, _, _}, ["exit", Id, Reason]) -> pid(N, Id) ! {exit, Reason};
step({N, _, _}, ["kill", Id]) -> exit(pid(N, Id), kill);
step({N, Nodes, _} = Tree, [Op, Id]) ->
	[_, Parent | _] = proplists:get_value(Id, Nodes),
	Sup = pid(N, Parent),
	event(N, try
		case Op of
			"terminate" -> result(supervisor:terminate_child(Sup, Id));
			"delete" -> result(supervisor:delete_child(Sup, Id));
			"restart" -> result(supervisor:restart_child(Sup, Id));
			"add" -> result(supervisor:start_child(Sup, spec(Tree, Id)))
		end
	catch exit:_ -> "=gone"
	end).

result(ok) -> "=ok";
result({ok, undefined}) -> "=ignored";
result({ok, _}) -> "=ok";
result({error, not_found}) -> "=unknown";
result({error, running}) -> "=running";
result({error, restarting}) -> "=restarting";
result({error, already_present}) -> "=present";
result({error, {already_started, _}}) -> "=started";
result({error, _}) -> "=failed".

%% While a child is given time to stop, nothing moves either. By the time its supervisor answers that is over, though
%% another one may be next: until nothing has happened since the last answers.
settle({N, _, _} = Tree, Before) ->
	next(),
	children(Tree),
	next(),
	case starts(N, events) of
		Before -> ok;
		After -> settle(Tree, After)
	end.

snapshot(Tree) ->
	settle(Tree, starts(element(1, Tree), events)),
	{N, Nodes, _} = Tree,
	[case children(Tree, Id) of
		none -> ok;
		{Children, Counts} ->
			event(N, [Id, "["]),
			[event(N, [Child, ":", case State of
				undefined -> "-";
				restarting -> "restarting";
				_ -> integer_to_list(starts(N, Child))
			end]) || {Child, State} <- Children],
			event(N, ["]", [["/", integer_to_list(proplists:get_value(K, Counts))] ||
				K <- [specs, active, supervisors, workers]]])
	end || {Id, ["sup" | _]} <- Nodes].

next() ->
	ets:insert(now, {{ready, self()}}),
	receive next -> ok end.

children({_, Nodes, _} = Tree) -> [children(Tree, Id) || {Id, ["sup" | _]} <- Nodes].

children({N, _, _}, Id) ->
	Sup = pid(N, Id),
	try {lists:sort([{C, Pid} || {C, Pid, _, _} <- supervisor:which_children(Sup)]), supervisor:count_children(Sup)}
	catch exit:_ -> none
	end.

event(N, Word) ->
	ets:insert(events, {{N, erlang:unique_integer([monotonic])}, Word}),
	ets:update_counter(now, {starts, N, events}, 1, {{starts, N, events}, 0}).

pid(N, Id) ->
	case ets:lookup(now, {N, Id}) of
		[{_, Pid}] -> Pid;
		[] -> spawn(fun() -> ok end)
	end.

starts(N, Id) -> ets:update_counter(now, {starts, N, Id}, 0, {{starts, N, Id}, 0}).

reason(normal) -> "normal";
reason(shutdown) -> "shutdown";
reason({shutdown, 1}) -> "detail";
reason(killed) -> "killed";
reason({error, 5}) -> "error";
reason(_) -> "odd".

term("detail") -> {shutdown, 1};
term("error") -> {error, 5};
term("killed") -> killed;
term("normal") -> normal;
term("shutdown") -> shutdown.

%% --- supervisors and children ---

start_sup({N, _, _} = Tree, Id) ->
	event(N, ["+", Id]),
	starts(N, Id),
	ets:update_counter(now, {starts, N, Id}, 1),
	supervisor:start_link(?MODULE, {Tree, Id}).

init({{N, Nodes, _} = Tree, Id}) ->
	ets:insert(now, {{N, Id}, self()}),
	["sup", _, Strategy, Intensity, Auto | _] = proplists:get_value(Id, Nodes),
	{ok, {#{strategy => list_to_atom(Strategy), intensity => list_to_integer(Intensity), period => 3600,
		auto_shutdown => list_to_atom(Auto)},
	      [spec(Tree, C) || {C, [_, Parent | _] = Words} <- Nodes, Parent =:= Id, lists:last(Words) =:= "now"]}}.

spec({_, Nodes, _} = Tree, Id) ->
	case proplists:get_value(Id, Nodes) of
		["sup", _, _, _, _, Restart | _] ->
			#{id => Id, start => {?MODULE, start_sup, [Tree, Id]}, restart => list_to_atom(Restart),
			  type => supervisor, shutdown => infinity};
		["child", _, Restart, Manner | _] ->
			#{id => Id, start => {?MODULE, start_child, [Tree, Id]}, restart => list_to_atom(Restart),
			  significant => Manner =:= "significant",
			  shutdown => case Manner of "brutal" -> brutal_kill; "stubborn" -> 5; _ -> infinity end}
	end.

start_child({N, Nodes, _}, Id) ->
	["child", _, _, Manner, Odd | _] = proplists:get_value(Id, Nodes),
	event(N, ["+", Id]),
	starts(N, Id),
	case odd(Odd, ets:update_counter(now, {starts, N, Id}, 1)) of
		start ->
			Pid = spawn_link(?MODULE, child, [N, Id, Manner, self()]),
			receive {Pid, ready} -> ok end,
			ets:insert(now, {{N, Id}, Pid}),
			{ok, Pid};
		Other -> Other
	end.

odd("fail" ++ Which, Start) -> odd(Which, Start, {error, nope});
odd("ignore" ++ Which, Start) -> odd(Which, Start, ignore);
odd(_, _) -> start.

odd([At, $+], Start, Result) when Start >= At - $0 -> Result;
odd([At], At0, Result) when At0 =:= At - $0 -> Result;
odd(_, _, _) -> start.

child(N, Id, Manner, Parent) ->
	process_flag(trap_exit, true),
	Parent ! {self(), ready},
	child_loop(N, Id, Manner).

child_loop(N, Id, Manner) ->
	receive
		{exit, Reason} -> exit(term(Reason));
		%% It does not even say so: it may be killed before it can.
		{'EXIT', _, _} when Manner =:= "stubborn" -> child_loop(N, Id, Manner);
		{'EXIT', _, Reason} ->
			event(N, ["-", Id, ".", reason(Reason)]),
			exit(Reason)
	end.
