from flowgan_tf.runs.seeds import Purpose, stateless_seed


def test_every_draw_has_a_seed_of_its_own():
  draws = {
    (seed, purpose, step): tuple(stateless_seed(seed, purpose, step).numpy())
    for seed in (0, 1, 2**31 - 1)
    for purpose in Purpose
    for step in (0, 1, 2, 10**6)
  }
  assert len(set(draws.values())) == len(draws)
  assert len(Purpose) == len(Purpose.__members__)  # A second name of a number would be an alias.
  for arguments, seed in draws.items():
    assert tuple(stateless_seed(*arguments).numpy()) == seed
