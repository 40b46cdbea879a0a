"""Which arms a correlation compares, and in how many ways their levels can be permuted."""

from gapctl.config.arms import build_correlation_arm_grid, select_arms

VARY = {"a": ["p", "q", "r"], "b": ["x", "y"], "c": [True, False]}


def test_arms_of_one_level_of_each_given_factor_are_compared() -> None:
    grid = build_correlation_arm_grid(VARY, {"c": True}, ["b", "gap/rmg"])
    arms = select_arms(VARY, {"c": True})

    assert grid.arms == len(arms) == 6
    assert [{arms[place]["b"] for place in members} for members in grid.strata] == [{"x"}, {"y"}]
    assert grid.pairs == 3 + 3


def test_levels_are_permuted_and_not_arms() -> None:
    assert build_correlation_arm_grid(VARY, {}, []).orders == 6 * 2 * 2
    assert build_correlation_arm_grid(VARY, {}, ["a"]).orders == 2 * 2
    assert build_correlation_arm_grid(VARY, {"b": "x", "c": True}, ["a"]).pairs == 0


def test_no_p_is_smaller_than_the_counted_permutations_allow() -> None:
    many = build_correlation_arm_grid({"a": list("abcdefghi")}, {}, [])

    assert (many.orders, many.counted) == (362_880, 3_000)
    assert many.compute_least_p(2) == 2 / 3_000
    assert build_correlation_arm_grid({"b": ["x", "y"]}, {}, []).compute_least_p(2) == 1.0


def test_three_or_more_numbers_are_a_dose_with_two_orders() -> None:
    dose = build_correlation_arm_grid(
        {"a": [0.1, 0.3, 0.2], "b": ["x", "y", "z"], "c": [1, 2], "d": [True, False]}, {}, []
    )

    assert dose.doses == ((0, 2, 1), (), (), ())
    assert dose.orders == 2 * 6 * 2 * 2
    assert build_correlation_arm_grid({"a": range(9)}, {}, []).compute_least_p(1) == 1 / 2
