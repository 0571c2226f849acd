from machine.supervisor.clock import HostClock


def test_sleep_and_a_clock_that_is_set_are_noticed_once_and_slow_corrections_never() -> None:
    wall, monotonic = 1_000_000.0, 50.0
    clock = HostClock(wall=lambda: wall, monotonic=lambda: monotonic)

    def pass_time(*, wall_s: float, monotonic_s: float) -> bool:
        nonlocal wall, monotonic
        wall += wall_s
        monotonic += monotonic_s
        return clock.has_jumped()

    assert not pass_time(wall_s=5, monotonic_s=5)
    assert pass_time(wall_s=3605, monotonic_s=5)  # an hour asleep
    assert not pass_time(wall_s=5, monotonic_s=5)
    assert pass_time(wall_s=-7200, monotonic_s=5)  # set back
    for _ in range(20):
        assert not pass_time(wall_s=5.5, monotonic_s=5)  # a fast clock, step by step
