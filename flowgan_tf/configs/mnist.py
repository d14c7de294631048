"""MNIST: NICE with a prior of 100 components, and Jet with 300. The data are downloaded unless TFDS has prepared them.

bin/train --config=configs/mnist.py --objective=mle                 9 minutes: test NLL -3,292 nats, MODE 9.3, FID 17
bin/train --config=configs/mnist.py:hybrid                          7 minutes: test NLL -3,292 nats, MODE 9.6, FID 8.7
bin/train --config=configs/mnist.py:adversarial                     6 minutes: test NLL -2,208 nats, MODE 9.5, FID 18

Measured on 2 CPU cores, in bfloat16 (`--precision=mixed_bfloat16 --jit=false`, for processors that have it). With
`--config.pseudo_labels=True` the first command reaches -3,278 nats, MODE 9.4 and FID 12. A hybrid that starts from
that run, without pseudo-labels, reaches -3,277 nats, 9.6 and 8.1. `hybrid` starts from the run of the first command,
runs/mnist-mle. `jet_hybrid` starts from the run of `jet`; both have pseudo-labels:

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

`few_labels` trains with 1,000 labels. `larger` and `larger_hybrid` draw images of 28x28 pixels, given 7x7:

bin/train --config=configs/mnist.py:few_labels --workdir=runs/mnist-few-mle
  5 minutes in bfloat16: accuracy of p(y | x) 95.8 %, test NLL -3,234 nats, FID 15
bin/train --config=configs/mnist.py:larger --workdir=runs/mnist-larger-mle
  26 minutes in bfloat16, beside other work: test NLL -3,700 nats given 7x7 pixels, FID 22, consistency 39 dB
bin/train --config=configs/mnist.py:larger_hybrid --workdir=runs/mnist-larger-hybrid
  9 minutes in bfloat16: test NLL -3,680 nats given 7x7 pixels, FID 8.9, consistency 43 dB

With the paper's prior, of one component, likelihood is better and samples are worse:

bin/train --config=configs/mnist.py --objective=mle --config.nice.components=1 --steps=7500 --workdir=runs/mnist-one-mle
  26 minutes in float32: test NLL -3,353 nats, MODE 6.3, FID 71
bin/train --config=configs/mnist.py:jet --config.jet.components=1 --config.pseudo_labels=False --steps=5000 \
  --workdir=runs/mnist-one-jet-mle
  32 minutes in float32: test NLL -3,653 nats, MODE 4.7, FID 127

`jet_one` conditions a histogram of each pixel on other pixels, and has the best likelihood. The first command trains on
moved images, and the second goes on with the images as they are. `jet_one_hybrid` starts from the second run:

bin/train --config=configs/mnist.py:jet_one --config.shift=1 --steps=1500 --config.optimizer.schedule=constant \
  --workdir=runs/mnist-jet-one-shift
bin/train --config=configs/mnist.py:jet_one --init_from=runs/mnist-jet-one-shift --config.init_checkpoint=latest \
  --steps=2000 --config.optimizer.learning_rate=2e-3 --workdir=runs/mnist-jet-one-mle
  34 and 50 minutes in bfloat16, beside other work: test NLL -3,805 nats (0.998 bits/dim), MODE 6.5, FID 50
bin/train --config=configs/mnist.py:jet_one_hybrid --workdir=runs/mnist-jet-one-hybrid
  15 minutes in bfloat16: test NLL -3,801 nats (1.005 bits/dim), MODE 7.6, FID 25
bin/train --config=configs/mnist.py:jet_one_hybrid --init_from=runs/mnist-jet-one-hybrid \
  --config.init_checkpoint=latest --lambda=0.002 --steps=3000 --config.optimizer.learning_rate=4e-4 \
  --config.optimizer.schedule=constant --config.critic_optimizer.schedule=constant --workdir=runs/mnist-jet-one-long
  60 minutes in bfloat16 to iteration 1,500: test NLL -3,788 nats (1.030 bits/dim), MODE 8.4, FID 8.7

docs/results.md has more.

The variant `paper` has the flow of the paper's code and trains it as that code does, for 500 epochs.

bin/train --config=configs/mnist.py:paper --objective=mle --workdir=runs/mnist-paper-mle
  7 hours (estimate); the paper: best test NLL -3,334.56 nats, best MODE 7.42, at -3,287.69 nats
bin/train --config=configs/mnist.py:paper --objective=adversarial --workdir=runs/mnist-paper-adversarial
  35 hours (estimate); the paper: best test NLL -1,604.09 nats, best MODE 9.24, at 26,350.30 nats
bin/train --config=configs/mnist.py:paper --objective=hybrid --workdir=runs/mnist-paper-hybrid
  39 hours (estimate); the paper: best test NLL -3,342.95 nats, best MODE 9.37, at -3,121.53 nats

We have not trained it to the end. The estimates follow from the time of a step on 2 CPU cores. Four things differ from
the paper's code: the gradient penalty takes the norm over all pixels, the critic's initial weights are Glorot's, layers
of the same shape do not start with the same weights, and the last log-scales are at most 10. The README of the paper's
code trains the hybrid with --lambda=1, the paper with 0.1. These weigh the likelihood as 0.19 and 0.02 do here; see
docs/flows.md.
"""

from ml_collections import config_dict

from flowgan_tf.errors import UsageError
from flowgan_tf.runs.config import default_config

VARIANTS = (
  'default',
  'hybrid',
  'adversarial',
  'few_labels',
  'jet',
  'jet_class',
  'jet_hybrid',
  'jet_label',
  'jet_label_hybrid',
  'jet_one',
  'jet_one_hybrid',
  'larger',
  'larger_hybrid',
  'paper',
)


def get_config(variant: str = 'default') -> config_dict.ConfigDict:
  """Returns the paper's flow, or Jet.

  Args:
    variant: 'default', NICE with a prior of several components, layer norm, networks that return zero in a new flow,
      averaged weights and learning rates that fall to zero; 'hybrid', which starts from such a run, with a relativistic
      critic; 'adversarial', this critic alone, from a new flow; 'jet', maximum likelihood with Jet and pseudo-labels;
      'jet_hybrid', which starts from a run of 'jet'; 'jet_label' and 'jet_label_hybrid', the same given the label of
      each image; 'jet_one' and 'jet_one_hybrid', one component and histograms of the pixels; 'jet_class', whose p(y |
      x) classifies images; 'few_labels', NICE with 1,000 labels; 'larger' and 'larger_hybrid', Jet given the image at a
      quarter of its resolution; 'paper', NICE with what the paper's code has instead: one component, batch norm with
      one mean and variance for all features, normal initial weights, constant learning rates, and one batch for all
      critic steps.

  Raises:
    UsageError: If there is no such variant.
  """
  if variant not in VARIANTS:
    raise UsageError(f'mnist.py:{variant}: no such variant; expected one of {", ".join(VARIANTS)}')
  config = default_config()
  config.dataset = 'mnist'
  if variant != 'paper':
    config.nice.components, config.jet.components = 100, 300
  if variant.startswith(('jet', 'larger')):
    config.generator = 'jet'
  else:
    config.jit = True
  if variant.startswith(('jet_label', 'jet_class')):
    config.condition = 'label'
  if variant == 'jet_class':
    config.class_weight, config.class_temperature = 2000.0, 50.0
    config.jet.components, config.jet.condition_networks = 50, False
  if variant.startswith('jet_one'):
    config.jet.components, config.jet.histogram_bins, config.jet.histogram_networks = 1, 256, 6
  if variant.startswith('larger'):
    config.condition = 'low_resolution:4'
    config.jet.components, config.jet.log_scale_bound = 1, 5.0
  if variant == 'larger_hybrid':
    config.consistency_weight = 2000.0
  if variant == 'few_labels':
    config.objective, config.condition = 'mle', 'label'
    config.labelled, config.spread_labels, config.class_weight = 1000, True, 10.0
    config.nice.condition_networks = False
  if variant in ('jet', 'jet_class', 'jet_label', 'jet_one', 'larger'):
    config.pseudo_labels = variant not in ('jet_one', 'larger')
    config.steps = {'jet': 7000, 'jet_class': 6000, 'jet_label': 10_000, 'jet_one': 6000, 'larger': 3000}[variant]
    config.eval_every = 1500 if variant == 'jet_class' else 1000
    config.optimizer.learning_rate = 1.5e-3
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 200
    config.optimizer.beta_1 = 0.9
    config.optimizer.beta_2 = 0.99
    config.ema_decay = 0.995
    if variant == 'jet_one':
      # The norm rises to about 300 in the first 200 steps, and then falls to 100.
      config.optimizer.learning_rate, config.optimizer.clip_norm = 2.5e-3, 300.0
  elif variant not in ('default', 'few_labels', 'paper'):
    # A relativistic critic, which sees the samples of the flow's own step. In hybrids, the flow is already trained.
    if variant == 'adversarial':
      config.objective = 'adversarial'
      config.steps = 1500
      config.eval_every = 250
    else:
      config.objective = 'hybrid'
      start = variant.removesuffix('hybrid').replace('_', '-')
      config.init_from = f'runs/mnist-{start}mle'
      config['lambda'] = {'jet_label_hybrid': 0.005, 'jet_one_hybrid': 0.005, 'larger_hybrid': 0.01}.get(variant, 0.02)
      steps = {'hybrid': 1200, 'jet_label_hybrid': 800, 'jet_one_hybrid': 300, 'larger_hybrid': 700}
      config.steps = steps.get(variant, 600)
      config.eval_every = 200 if variant == 'hybrid' else config.steps // 4
      config.pseudo_labels = variant in ('jet_hybrid', 'jet_label_hybrid')
    config.divergence = 'relativistic'
    config.critic_steps = 1
    config.reuse_batch = True
    config.critic_warmup = 200 if variant in ('hybrid', 'adversarial') else 100
    config.gradient_penalty = 0.05
    config.penalty_interval = 4
    config.dcgan_critic.channels = (64, 128)
    config.dcgan_critic.dense_units = 512
    config.optimizer.schedule = config.critic_optimizer.schedule = 'cosine'
    config.optimizer.learning_rate = 2e-4 if config.condition or variant == 'jet_one_hybrid' else 1e-4
    config.optimizer.warmup_steps = 100
    config.critic_optimizer.learning_rate = 5e-4
    config.critic_optimizer.beta_1 = 0.0
    config.critic_optimizer.beta_2 = 0.99
  elif variant == 'paper':
    config.steps = 250_000
    config.nice.normalization = 'scalar_batch'
    config.nice.initial_weights = 'paper'
    config.reuse_batch = True
    config.ema_decay = 0.0
    config.optimizer.learning_rate = config.critic_optimizer.learning_rate = 1e-4
  else:
    config.steps = 3000 if variant == 'default' else 2000
    config.optimizer.learning_rate = 5e-4
    config.optimizer.schedule = config.critic_optimizer.schedule = 'cosine'
    config.critic_optimizer.beta_1 = 0.0
  return config
