"""Which rows an objective takes, and which of its terms says what a reward is."""

import pytest

from prefkit.core.errors import ConfigError
from prefkit.training import TrainSettings
from prefkit.training.objective import make_objective


@pytest.mark.parametrize(
    ("loss", "beta", "per_token"),
    [
        ({"nll": 0.2, "sigmoid_norm": 1.0}, 5.0, True),
        ({"sigmoid_norm": 1.0, "nll": 0.2}, 5.0, True),
        ({"nll": 0.2, "sigmoid": 1.0}, 0.1, False),
        ({"simpo": 1.0, "sigmoid": 1.0}, 2.0, True),
        ("nll", 1.0, True),
        ("orpo", 0.1, True),
        ("cpo", 0.1, False),  # it contrasts sums
    ],
)
def test_a_reward_is_beta_and_sum_or_mean_of_one_and_the_same_term(loss, beta, per_token):
    objective = make_objective(TrainSettings(loss=loss))
    assert (objective.beta, objective.per_token) == (beta, per_token)


def test_the_kinds_it_takes_are_those_that_all_its_losses_take_its_own_first():
    def targets(loss):
        return make_objective(TrainSettings(loss=loss)).targets

    assert targets("sigmoid") == ("pair",)
    assert targets("nll") == ("pair", "demonstration", "ranking")
    assert targets({"nll": 1.0, "sft": 1.0}) == ("pair", "demonstration", "ranking")
    assert targets({"nll": 1.0, "plackett_luce": 1.0}) == ("ranking",)


def test_modifiers_of_pairs_are_refused_on_other_rows():
    objective = make_objective(TrainSettings(loss="nll", wpo=True))
    assert objective.target == "pair"
    with pytest.raises(ConfigError, match="nll takes demonstration rows"):
        objective.taking("demonstration")
