# SPDX-License-Identifier: MIT OR GPL-2.0

defmodule Peers do
  @moduledoc "Twins of mote-bench in Elixir, for what its library has and Erlang's has not: one run of the benchmark named."
  @batch 1000

  def main([name]) do
    bench(name)
    System.halt(0)
  end

  defp bench("async"), do: rate("async", fn -> Enum.each(1..@batch, &async/1) end)
  defp bench("async_stream"), do: rate("async_stream", fn -> @batch = stream(0) end)

  defp bench("registry_lookup") do
    {:ok, _} = Registry.start_link(keys: :unique, name: Bench)
    Enum.each(1..@batch, fn key -> {:ok, _} = Registry.register(Bench, key, nil) end)
    self = self()
    rate("registry_lookup", fn -> @batch = found(@batch, self, 0) end)
  end

  defp bench("registry_enter") do
    {:ok, _} = Registry.start_link(keys: :unique, name: Bench)
    rate("registry_enter", fn -> Enum.each(1..@batch, fn _ -> guest() end) end)
  end

  defp bench("version") do
    IO.puts("Elixir #{System.version()} (OTP #{:erlang.system_info(:otp_release)})")
  end

  defp async(n) do
    twice = 2 * n
    ^twice = Task.await(Task.async(fn -> 2 * n end), 5000)
  end

  defp found(0, _, n), do: n

  defp found(key, self, n) do
    case Registry.lookup(Bench, key) do
      [{^self, nil}] -> found(key - 1, self, n + 1)
      _ -> found(key - 1, self, n)
    end
  end

  defp guest do
    {pid, ref} =
      spawn_monitor(fn ->
        {:ok, _} = Registry.register(Bench, "guest", nil)
        [{pid, nil}] = Registry.lookup(Bench, "guest")
        true = pid == self()
      end)

    receive do
      {:DOWN, ^ref, _, ^pid, :normal} -> forgotten("guest")
    end
  end

  # The registry may hear of an end later than others do.
  defp forgotten(key), do: if(Registry.lookup(Bench, key) != [], do: forgotten(key))

  # Eight at a time; the answers come in the order of the items.
  defp stream(n) do
    0..(@batch - 1)
    |> Task.async_stream(fn i -> 2 * i end, max_concurrency: 8)
    |> Enum.reduce(n, fn {:ok, v}, n when v == 2 * n -> n + 1 end)
  end

  defp rate(name, round) do
    Enum.each(1..10, fn _ -> round.() end)
    {wall, cpu} = {now(), cpu()}
    n = repeat(round, wall + trunc(seconds() * 1.0e9), 0)
    {wall, cpu} = {(now() - wall) / n, (cpu() - cpu) / n}
    v = :erlang.float_to_binary(wall, decimals: 2)
    c = :erlang.float_to_binary(cpu, decimals: 2)
    IO.puts("#{name} #{v} ns min #{v} median #{v} max #{v} cpu #{c} runs 1")
  end

  defp repeat(round, until, n) do
    round.()
    if now() < until, do: repeat(round, until, n + @batch), else: n + @batch
  end

  defp seconds do
    {s, _} = Float.parse(System.get_env("BENCH_SECONDS") || "0.25")
    s
  end

  defp now, do: :erlang.monotonic_time(:nanosecond)

  defp cpu do
    {ms, _} = :erlang.statistics(:runtime)
    ms * 1_000_000
  end
end
