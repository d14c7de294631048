"""Summaries of runs that never were, with studies that nobody measured; and their tables as a reader sees them."""

import numpy as np

from flowgan_tf.display.tables import Table
from flowgan_tf.runs.config import default_config
from flowgan_tf.study.summary import Study, Summary

SETTINGS = {'seed': 0}


def cells(table: Table) -> list[dict[str, str]]:
  """What each row shows, by the headers of the columns."""
  return [{column.header: column.text(row) for column in table.columns} for row in table.rows]


def summary(objective: str, weight: float = 0.1, dataset: str = 'mnist', shape=(28, 28, 1), **fields) -> Summary:
  config = default_config()
  config.dataset, config.objective, config['lambda'] = dataset, objective, weight
  config.generator = 'real_nvp' if shape[-1] == 3 else 'nice'
  label = {'mle': 'MLE', 'adversarial': 'ADV', 'hybrid': f'Hybrid λ = {weight}'}[objective]
  named = {'label': label, 'path': f'runs/{objective}', 'config': config, 'dataset': dataset}
  return Summary(**named | {'fingerprint': f'hash of {dataset}', 'image_shape': shape, 'levels': 256} | fields)


def evaluated(checkpoint: str, step: int, nll: float, mode: float) -> dict:
  likelihood = {'nll': nll, 'standard_error': 1.5, 'bits_per_dim': 1.9, 'round_trip_error': 1e-6, 'n': 10_000}
  scores = {'mode_score': mode, 'mode_score_std': 0.1, 'score_splits': 10}
  scores |= {'score_samples': 5000, 'scorer': 'classifier'}
  return {'step': step, 'checkpoint': checkpoint, 'split': 'test', 'scorer_hash': 'abc'} | likelihood | scores


def conditional(condition: str, objective: str = 'mle', **fields) -> Summary:
  """A run that is given labels or images, at one step; with labels class 1 is the worst."""
  scored = {'score_splits': 10, 'reference_images': 50_000}
  numbers = {'label_share': 0.9, 'label_share_error': 0.01, 'label_shares': [0.95, 0.85], 'class_fid': 11.5}
  numbers |= {'worst_label': 1, 'worst_label_share': 0.85, 'worst_fid_label': 1, 'worst_class_fid': 13.25}
  numbers |= {'class_accuracy': 0.975, 'class_accuracy_error': 0.002, 'calibration_error': 0.02}
  numbers |= {'conditional_nll': -3302.3, 'class_fid_samples': 400, 'class_fid_references': 500}
  numbers |= {'class_fid_left_out': 1, 'labeller_accuracy': 0.9912}
  real = {'real_label_share': 0.99, 'real_label_shares': [1.0, 0.98], 'real_score_samples': 5000}
  if condition != 'label':
    numbers = {'psnr': 20.5, 'ssim': 0.75, 'consistency': 40.25, 'spread': 0.05, 'spread_samples': 8}
    numbers |= {'spread_conditions': 100}
    real = {'real_consistency': 65.0, 'real_score_samples': 5000}
  named = {'evaluation': [evaluated('best_nll', 4, -3300.0, 6.0) | {'condition': condition} | scored | numbers | real]}
  run = summary(objective, label=f'MLE (given {condition})', path=f'runs/{condition}', **named | fields)
  run.config.condition = condition
  return run


def kde(nll: float, exact: float) -> Study:
  numbers = {'nll': nll, 'standard_error': 1.0, 'exact_nll': exact, 'exact_standard_error': 2.0, 'n_test': 10_000}
  rest = {'n_samples': 5000, 'bandwidth': 0.2}
  return Study({'what': 'kde', 'checkpoint': 'best_score', 'step': 9, 'settings': SETTINGS} | numbers | rest, {})


def ais(nll: float, error: float, gap: float, step: int = 9, n: int = 16) -> Study:
  settings = SETTINGS | {'ais_images': n, 'ais_chains': 2, 'ais_steps': 50}
  numbers = {'nll': nll, 'standard_error': error, 'exact_nll': nll - 10, 'exact_standard_error': 2.0, 'n': n}
  rest = {'chains': 2, 'steps': 50, 'sigma': 0.1, 'bracket_gap': gap, 'bracket_gap_standard_error': 1.0}
  return Study({'what': 'ais', 'checkpoint': 'best_score', 'step': step, 'settings': settings} | numbers | rest, {})


def jacobian(values: list[list[float]], below_precision: float = 0.0) -> Study:
  record = {'what': 'jacobian', 'checkpoint': 'latest', 'step': 9, 'settings': SETTINGS, 'n': 2, 'd': 3}
  numbers = {'mean_log_det': -4.5, 'standard_error': 0.5, 'median_condition_number': 10.0}
  rest = {'largest_condition_number': None, 'below_precision': below_precision, 'largest_relative_difference': 0.0}
  return Study(record | numbers | rest, {'singular_values': np.array(values)})


def gmm(model_nll: float, model_score: float) -> Study:
  """A mixture with an NLL of 0, -100 and 0 and scores of 1, 5 and 9 at bandwidths of 0.1, 0.2 and 0.4."""
  scored = {'scorer': 'classifier', 'scorer_hash': 'abc', 'score_samples': 500}
  bandwidths = [
    {'bandwidth': h, 'nll': nll, 'standard_error': 1.0, 'n': 100, 'mode_score': score} | scored
    for h, nll, score in ((0.1, 0.0, 1.0), (0.2, -100.0, 5.0), (0.4, 0.0, 9.0))
  ]
  record = {'what': 'gmm', 'checkpoint': 'latest', 'step': 9, 'settings': SETTINGS | {'samples': 500}, 'centers': 1000}
  numbers = {'best_bandwidth': 0.2, 'best_nll': -100.0, 'best_standard_error': 1.0, 'test_nll': -99.0}
  numbers |= {'test_standard_error': 1.0, 'test_n': 100, 'selection': 'mode_score', 'bandwidths': bandwidths}
  model = {'nll': model_nll, 'mode_score': model_score} | scored
  return Study(record | numbers | {'model': model}, {'samples': np.zeros((64, 4, 4, 1), np.float32)})


def outliers(shift: float = 0.0) -> Study:
  rng = np.random.default_rng(0)
  arrays = {
    name: rng.normal(mean, 1.0, 50) for name, mean in (('train', 1 + shift), ('test', 0), ('uniform noise', -900))
  }
  sets = {n: {'mean_log_prob': v.mean(), 'standard_error': 0.1, 'n': 50, 'auroc': 0.5} for n, v in arrays.items()}
  sets['test']['auroc'] = None
  settings = SETTINGS | {'images': 50, 'other_dataset': ''}
  record = {'what': 'outliers', 'checkpoint': 'latest', 'step': 9, 'settings': settings, 'levels': 256, 'sets': sets}
  return Study(record, arrays)


def temperature() -> Study:
  scored = {'mode_score_std': 0.1, 'scorer': 'classifier', 'scorer_hash': 'abc', 'score_samples': 500}
  temperatures = [
    {'temperature': t, 'nll': nll, 'standard_error': 1.0, 'n': 100, 'mode_score': score} | scored
    for t, nll, score in ((0.5, -50.0, 9.0), (1.0, -90.0, 7.0))
  ]
  record = {'what': 'temperature', 'checkpoint': 'latest', 'step': 9, 'settings': SETTINGS | {'samples': 500}}
  rest = {'selection': 'mode_score', 'temperatures': temperatures}
  return Study(record | rest, {'samples': np.zeros((2, 3, 4, 4, 1), np.float32)})
