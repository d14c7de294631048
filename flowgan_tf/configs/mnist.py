"""MNIST: NICE with a prior of 100 components, and Jet with 300. The data are downloaded unless TFDS has prepared them.

bin/train --config=configs/mnist.py --objective=mle                 9 minutes: test NLL -3,292 nats, MODE 9.3, FID 17
bin/train --config=configs/mnist.py:hybrid                          7 minutes: test NLL -3,292 nats, MODE 9.6, FID 8.7
bin/train --config=configs/mnist.py:adversarial                     6 minutes: test NLL -2,208 nats, MODE 9.5, FID 18
bin/train --config=configs/mnist.py:transport --workdir=runs/mnist-transport
  10 minutes: test NLL -2,762 nats, MODE 9.4, FID 17

We measured these on 2 CPU cores, in bfloat16 (`--precision=mixed_bfloat16 --jit=false`, for processors that have it).
The minutes count the whole training. docs/results/nice.md says which checkpoint we evaluated. With
`--config.pseudo_labels=True --workdir=runs/labels-mle` the first command reaches -3,278 nats, MODE 9.4 and FID 12. A
hybrid that starts from that run, without pseudo-labels, reaches -3,277 nats, 9.6 and 8.1. `hybrid` starts from the run
of the first command, runs/mnist-mle. `jet_hybrid` starts from the run of `jet`; both have pseudo-labels:

bin/train --config=configs/mnist.py:jet --workdir=runs/mnist-jet-mle
  57 minutes in bfloat16, beside other work: test NLL -3,610 nats, MODE 9.4, FID 7.3
bin/train --config=configs/mnist.py:jet_hybrid --workdir=runs/mnist-jet-hybrid
  13 minutes in bfloat16, beside other work: test NLL -3,607 nats, MODE 9.4, FID 6.4

`jet_label` and `jet_label_hybrid` are conditional flows of digits given their labels; see docs/conditional.md. The
second starts from the run of the first, runs/mnist-jet-label-mle:

bin/train --config=configs/mnist.py:jet_label --workdir=runs/mnist-jet-label-mle
  132 minutes in bfloat16, beside much other work: test NLL -3,647 nats, MODE 9.4, FID 4.4
bin/train --config=configs/mnist.py:jet_label_hybrid --workdir=runs/mnist-jet-label-hybrid
  12 minutes in bfloat16: test NLL -3,635 nats, MODE 9.6, FID 2.5, 99.1 % of samples have the requested label

bin/train --config=configs/mnist.py:jet_class --workdir=runs/mnist-jet-class
  50 minutes in bfloat16, beside other work: accuracy of p(y | x) 98.3 %, test NLL -3,380 nats

`larger` and `larger_hybrid` draw images of 28x28 pixels, given 7x7:

bin/train --config=configs/mnist.py:larger --workdir=runs/mnist-larger-mle
  26 minutes in bfloat16, beside other work: test NLL -3,700 nats given 7x7 pixels, FID 22, consistency 39 dB
bin/train --config=configs/mnist.py:larger_hybrid --workdir=runs/mnist-larger-hybrid
  9 minutes in bfloat16: test NLL -3,680 nats given 7x7 pixels, FID 8.9, consistency 43 dB

With the paper's prior, of one component, likelihood is better and samples are worse. The second and the third command
start from the run of the command before:

bin/train --config=configs/mnist.py:one --workdir=runs/mnist-one-mle
  26 minutes in float32: test NLL -3,353 nats, MODE 6.3, FID 71
bin/train --config=configs/mnist.py:one_hybrid --workdir=runs/mnist-one-hybrid
  27 minutes in bfloat16, beside other work: test NLL -3,310 nats, MODE 8.7, FID 9.2 at iteration 3,000, the best score
bin/train --config=configs/mnist.py:one_low --workdir=runs/mnist-one-low
  16 minutes in bfloat16, beside other work, to iteration 1,500: test NLL -3,192 nats, MODE 8.8, FID 7.1
bin/train --config=configs/mnist.py:jet --config.jet.components=1 --config.pseudo_labels=False --steps=5000 \
  --workdir=runs/mnist-one-jet-mle
  32 minutes in float32: test NLL -3,653 nats, MODE 4.7, FID 127

`jet_one` conditions a histogram of each pixel on other pixels, and has the best likelihood. `jet_one_shift` trains on
moved images, and `jet_one` goes on with the images as they are. Three more trainings of these variants, from these
weights, end at -3,828 nats; see docs/results/histograms.md. The hybrids start from the run of the command before:

bin/train --config=configs/mnist.py:jet_one_shift --workdir=runs/mnist-jet-one-shift
bin/train --config=configs/mnist.py:jet_one --workdir=runs/mnist-jet-one-mle
  34 and 50 minutes in bfloat16, beside other work: test NLL -3,805 nats (0.998 bits/dim), MODE 6.5, FID 50
bin/train --config=configs/mnist.py:jet_one_hybrid --workdir=runs/mnist-jet-one-hybrid
  15 minutes in bfloat16: test NLL -3,801 nats (1.005 bits/dim), MODE 7.6, FID 25
bin/train --config=configs/mnist.py:jet_one_long --workdir=runs/mnist-jet-one-long
  60 minutes in bfloat16: test NLL -3,788 nats (1.030 bits/dim), MODE 8.4, FID 8.7

docs/results.md has more.

The variant `paper` has the flow of the paper's code and trains it as that code does, for 500 epochs.

bin/train --config=configs/mnist.py:paper --objective=mle --workdir=runs/mnist-paper-mle
  7 hours (estimate); the paper: best test NLL -3,334.56 nats, best MODE 7.42, at -3,287.69 nats
bin/train --config=configs/mnist.py:paper --objective=adversarial --workdir=runs/mnist-paper-adversarial
  21 hours in bfloat16 (estimate); the paper: best test NLL -1,604.09 nats, best MODE 9.24, at 26,350.30 nats
bin/train --config=configs/mnist.py:paper --objective=hybrid --workdir=runs/mnist-paper-hybrid
  30 hours in bfloat16 (estimate); the paper: best test NLL -3,342.95 nats, best MODE 9.37, at -3,121.53 nats

We have not trained it to the end; docs/results/paper.md says how far it came. The estimates follow from the time of a
step on 2 CPU cores. The paper trains the hybrid with a lambda of 0.1, the README of its code with 1. These weigh the
likelihood about as 0.02, the default of this variant, and 0.19 do here; see docs/paper.md. Some things differ from the
paper's code:

- The gradient penalty takes the norm over all pixels.
- The critic's initial weights are Glorot's, and layers of the same shape do not start with the same weights.
- The last log-scales are at most 10. The epsilon of Adam is 1e-7 instead of 1e-8.
- The critic's samples move the running statistics once in a step instead of five times. Maximum likelihood draws no
  samples, so its running statistics are those of images alone. `benchmarks.batch_statistics` measures the difference.
"""

from ml_collections import config_dict

from flowgan_tf.base.errors import UsageError
from flowgan_tf.runs.config import default_config

# Flows
_NICE = {'jit': True, 'nice.components': 100, 'jet.components': 300}  # 300 with --generator=jet
_NICE_ONE = {'jit': True}
_JET = {'generator': 'jet', 'jet.components': 300}
_JET_LABEL = {'generator': 'jet', 'jet.components': 300, 'condition': 'label'}
_JET_CLASS = {'generator': 'jet', 'jet.components': 50, 'condition': 'label', 'jet.condition_networks': False}
_JET_ONE = {'generator': 'jet', 'jet.components': 1, 'jet.histogram_bins': 256, 'jet.histogram_networks': 6}
_LARGER = {'generator': 'jet', 'jet.components': 1, 'condition': 'low_resolution:4', 'jet.log_scale_bound': 5.0}
_PAPER = {'nice.normalization': 'scalar_batch', 'nice.initial_weights': 'paper'}

# Trainings
_NICE_TRAINING = {
  'steps': 3000,
  'optimizer.learning_rate': 5e-4,
  'optimizer.schedule': 'cosine',
  'critic_optimizer.schedule': 'cosine',
  'critic_optimizer.beta_1': 0.0,
}
_JET_TRAINING = {
  'eval_every': 1000,
  'ema_decay': 0.995,
  'optimizer.learning_rate': 1.5e-3,
  'optimizer.schedule': 'cosine',
  'optimizer.warmup_steps': 200,
  'optimizer.beta_1': 0.9,
  'optimizer.beta_2': 0.99,
}
# The norm of the gradient rises to about 300 in the first 200 steps, and then falls to 100.
_HISTOGRAM_TRAINING = _JET_TRAINING | {'optimizer.learning_rate': 2.5e-3, 'optimizer.clip_norm': 300.0}
# A relativistic critic, which sees the samples of the flow's own step.
_CRITIC = {
  'divergence': 'relativistic',
  'critic_steps': 1,
  'reuse_batch': True,
  'critic_warmup': 100,
  'gradient_penalty': 0.05,
  'penalty_interval': 4,
  'dcgan_critic.channels': (64, 128),
  'dcgan_critic.dense_units': 512,
  'optimizer.learning_rate': 1e-4,
  'optimizer.schedule': 'cosine',
  'optimizer.warmup_steps': 100,
  'critic_optimizer.learning_rate': 5e-4,
  'critic_optimizer.schedule': 'cosine',
  'critic_optimizer.beta_1': 0.0,
  'critic_optimizer.beta_2': 0.99,
}
_ADVERSARIAL = _CRITIC | {'objective': 'adversarial', 'steps': 1500, 'eval_every': 250, 'critic_warmup': 200}
_NICE_HYBRID = _CRITIC | {
  'objective': 'hybrid',
  'lambda': 0.02,
  'steps': 1200,
  'eval_every': 200,
  'critic_warmup': 200,
}
_JET_HYBRID = _CRITIC | {'objective': 'hybrid', 'lambda': 0.02, 'steps': 600, 'eval_every': 150}
_CONSTANT_RATES = {
  'eval_every': 500,
  'optimizer.learning_rate': 4e-4,
  'optimizer.schedule': 'constant',
  'critic_optimizer.schedule': 'constant',
}


def _start(run, checkpoint=None):
  return {'init_from': f'runs/{{dataset}}-{run}', 'init_checkpoint': checkpoint}


#: The settings of each variant. Later ones replace earlier ones.
VARIANTS = {
  'default': (_NICE, _NICE_TRAINING),
  'hybrid': (_NICE, _NICE_HYBRID, _start('mle')),
  'adversarial': (_NICE, _ADVERSARIAL),
  'transport': (_NICE, _ADVERSARIAL, {'transport_weight': 100.0}),
  'one': (_NICE_ONE, _NICE_TRAINING, {'objective': 'mle', 'steps': 7500}),
  'one_hybrid': (_NICE_ONE, _NICE_HYBRID, _CONSTANT_RATES, _start('one-mle'), {'lambda': 0.002, 'steps': 4000}),
  'one_low': (
    _NICE_ONE,
    _NICE_HYBRID,
    _CONSTANT_RATES,
    _start('one-hybrid'),
    {'lambda': 0.0004, 'steps': 3000, 'gradient_penalty': 0.02},
  ),
  'jet': (_JET, _JET_TRAINING, {'pseudo_labels': True, 'steps': 7000}),
  'jet_hybrid': (_JET, _JET_HYBRID, _start('jet-mle'), {'pseudo_labels': True}),
  'jet_label': (_JET_LABEL, _JET_TRAINING, {'pseudo_labels': True, 'steps': 10_000}),
  'jet_label_hybrid': (
    _JET_LABEL,
    _JET_HYBRID,
    _start('jet-label-mle'),
    {'pseudo_labels': True, 'lambda': 0.005, 'steps': 800, 'eval_every': 200, 'optimizer.learning_rate': 2e-4},
  ),
  'jet_class': (
    _JET_CLASS,
    _JET_TRAINING,
    {'pseudo_labels': True, 'steps': 6000, 'eval_every': 1500, 'class_weight': 2000.0, 'class_temperature': 50.0},
  ),
  'jet_one_shift': (_JET_ONE, _HISTOGRAM_TRAINING, {'steps': 1500, 'shift': 1, 'optimizer.schedule': 'constant'}),
  'jet_one': (
    _JET_ONE,
    _HISTOGRAM_TRAINING,
    _start('jet-one-shift', 'latest'),
    {'steps': 2000, 'optimizer.learning_rate': 2e-3},
  ),
  'jet_one_hybrid': (
    _JET_ONE,
    _JET_HYBRID,
    _start('jet-one-mle'),
    {'lambda': 0.005, 'steps': 300, 'eval_every': 75, 'optimizer.learning_rate': 2e-4},
  ),
  'jet_one_long': (
    _JET_ONE,
    _JET_HYBRID,
    _CONSTANT_RATES,
    _start('jet-one-hybrid', 'latest'),
    {'lambda': 0.002, 'steps': 1500},
  ),
  'larger': (_LARGER, _JET_TRAINING, {'steps': 3000}),
  'larger_hybrid': (
    _LARGER,
    _JET_HYBRID,
    _start('larger-mle'),
    {'lambda': 0.01, 'steps': 700, 'eval_every': 175, 'consistency_weight': 2000.0, 'optimizer.learning_rate': 2e-4},
  ),
  'paper': (
    _NICE_ONE,
    _PAPER,
    {
      'steps': 250_000,
      'lambda': 0.02,
      'reuse_batch': True,
      'mixed_statistics': True,
      'ema_decay': 0.0,
      'optimizer.learning_rate': 1e-4,
      'critic_optimizer.learning_rate': 1e-4,
    },
  ),
}


def get_config(variant: str = 'default') -> config_dict.ConfigDict:
  """Returns the settings of a flow and its training.

  Args:
    variant: 'default', NICE with a prior of several components, layer norm, networks that return zero in a new flow,
      averaged weights and learning rates that fall to zero; 'hybrid', which starts from such a run, with a relativistic
      critic; 'adversarial', this critic alone, from a new flow; 'transport', the same with a cost of the transport from
      noise to samples; 'one', 'one_hybrid' and 'one_low', NICE with the paper's prior; 'jet', Jet with pseudo-labels;
      'jet_label', the same given the label of each image; 'jet_one_shift', 'jet_one', 'jet_one_hybrid' and
      'jet_one_long', one component and histograms of the pixels; 'jet_class', whose
      p(y | x) classifies images; 'larger', Jet given the image at a quarter of its resolution; 'paper', NICE with what
      the paper's code has instead: one component, batch norm with one mean and variance for all features, normal
      initial weights, constant learning rates, and one batch for all critic steps. The names that end with 'hybrid',
      and 'one_low', 'jet_one' and 'jet_one_long', start from another run.

  Raises:
    UsageError: If there is no such variant.
  """
  return for_dataset('mnist', variant)


def for_dataset(dataset: str, variant: str) -> config_dict.ConfigDict:
  """Returns a variant for a data set like MNIST, with runs of its own: `configs/DATASET.py:VARIANT`."""
  if variant not in VARIANTS:
    raise UsageError(f'{dataset}.py:{variant}: no such variant; expected one of {", ".join(VARIANTS)}')
  config = default_config()
  config.dataset = dataset
  for settings in VARIANTS[variant]:
    config.update_from_flattened_dict(settings)
  config.init_from = config.init_from.format(dataset=dataset)
  return config
