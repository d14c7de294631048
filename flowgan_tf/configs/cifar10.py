"""CIFAR-10: Real-NVP and critic at the paper's size, for a GPU, and small flows for two CPU cores.

The data are downloaded unless TFDS has prepared them. The variants for a GPU also download Inception-v3 for the scores.
For a GPU:

bin/train --config=configs/cifar10.py:mle --workdir=runs/cifar10-mle
  221 PFLOP, 2.5 hours (estimate); the paper: 3.54 bits/dim, Inception score 2.92
bin/train --config=configs/cifar10.py:adversarial --workdir=runs/cifar10-adversarial
  654 PFLOP, 7.3 hours (estimate); the paper: 8.53 bits/dim, Inception score 5.76
bin/train --config=configs/cifar10.py:hybrid --workdir=runs/cifar10-hybrid
  876 PFLOP, 9.7 hours (estimate); the paper: 4.21 bits/dim, Inception score 3.90
bin/train --config=configs/cifar10.py:dcgan --workdir=runs/cifar10-dcgan
  90 PFLOP, 1.0 hour (estimate); a curve of the paper's Figure 8
bin/train --config=configs/cifar10.py:dinh --workdir=runs/cifar10-dinh
  230 PFLOP, 2.6 hours (estimate); a variation on Dinh et al. 2017, for which there is no published number
bin/train --config=configs/cifar10.py:paper --workdir=runs/cifar10-paper
  233 PFLOP, 2.6 hours (estimate); the paper: 3.54 bits/dim, Inception score 2.92

For two CPU cores, the same objectives with a Real-NVP of 393,216 parameters, a smaller DCGAN, and a Jet p(x | y) of
images given their labels. Add `--precision=mixed_bfloat16` on a processor that has it. The hybrids start from the runs
of `small` and `jet`. The first two commands take two to three hours beside other work, `jet_hybrid` an hour, and the
others at most 40 minutes. docs/results/cifar-10.md shows shorter runs of all of them:

bin/train --config=configs/cifar10.py:small --workdir=runs/cifar10-small
bin/train --config=configs/cifar10.py:jet --workdir=runs/cifar10-jet
bin/train --config=configs/cifar10.py:small_hybrid --workdir=runs/cifar10-small-hybrid
bin/train --config=configs/cifar10.py:small_adversarial --workdir=runs/cifar10-small-adversarial
bin/train --config=configs/cifar10.py:small_dcgan --workdir=runs/cifar10-small-dcgan
bin/train --config=configs/cifar10.py:jet_hybrid --workdir=runs/cifar10-jet-hybrid
bin/train --config=configs/cifar10.py:jet_adversarial --workdir=runs/cifar10-jet-adversarial

`mle`, `adversarial` and `hybrid` have the size of the paper's flow, but the architecture that `fg.flows.real_nvp`
describes. `--config.real_nvp.architecture=paper` gives them the architecture of the paper's code. The README of that
code trains by maximum likelihood with one norm for the whole batch, without running statistics or learned gains and
biases. Our variant `paper` has batch norm, the default of that code.

We have trained none of the variants for a GPU to the end yet. `python -m benchmarks.size` counts the PFLOP of all
training steps. The hours are not measured: they follow from these FLOPs at an assumed 25 TFLOP/s sustained, in float32,
on one GPU like the H100, and leave out kernel launches, evaluations and the host's work.
"""

from ml_collections import config_dict

from flowgan_tf.base.errors import UsageError
from flowgan_tf.runs.config import default_config

VARIANTS = (
  'mle',
  'adversarial',
  'hybrid',
  'dcgan',
  'dinh',
  'paper',
  'small',
  'small_adversarial',
  'small_hybrid',
  'small_dcgan',
  'jet',
  'jet_adversarial',
  'jet_hybrid',
)


def get_config(variant: str = 'mle') -> config_dict.ConfigDict:
  """Returns a flow of the paper's size, with the optimizer that the paper's code uses for each objective.

  Args:
    variant: 'mle', 'adversarial' or 'hybrid', the rows of the paper's Table 2; or another one of `VARIANTS`. 'dinh' has
      the batch norm of Dinh et al. between the couplings (running statistics in evaluation), their alpha of 0.05, but a
      third scale. 'paper' has the flow and the 300 epochs of the paper's code, without averaged weights. 'small' and
      'jet' are trained by maximum likelihood. The names that begin with theirs say the objective, or the generator.

  Raises:
    UsageError: If there is no such variant.
  """
  if variant not in VARIANTS:
    raise UsageError(f'cifar10.py:{variant}: no such variant; expected one of {", ".join(VARIANTS)}')
  config = default_config()
  config.dataset = 'cifar10'
  config.batch_size = 64
  config.steps = 200_000
  config.flip = True
  config.eval_every = 2000
  config.scorer = 'inception'
  config.generator = 'real_nvp'
  config.dcgan.channels = (512, 256, 128)
  config.dcgan_critic.channels = (64, 128, 256, 512)
  config.dcgan_critic.dense_units = 0
  config.dcgan_critic.layer_norm = True
  config.critic_optimizer.learning_rate = 1e-4
  config.optimizer.schedule = 'exponential'
  if variant in ('adversarial', 'dcgan'):
    config.objective = 'adversarial'
    config.optimizer.learning_rate = 1e-4
  elif variant == 'hybrid':
    config.objective = 'hybrid'
    config['lambda'] = 1.0
    config.optimizer.learning_rate = 1e-3
    config.optimizer.decay_rate = 0.99999
  else:
    config.optimizer.learning_rate = 1e-3
    config.optimizer.beta_1 = 0.9
    config.optimizer.decay_rate = 0.999995
  if variant == 'paper':
    config.steps = 210_900
    config.ema_decay = 0.0
    config.real_nvp.architecture = 'paper'
  if variant == 'dcgan':
    config.generator = 'dcgan'
  if variant == 'dinh':
    config.real_nvp.alpha = 0.05
    config.real_nvp.scales = 3
    config.real_nvp.batch_norm_between = True
  if variant.startswith(('small', 'jet')):
    _fit_cpus(config, *variant.partition('_')[::2])
  return config


def _fit_cpus(config, size, kind):
  """Makes a flow that two CPU cores can train, or a DCGAN beside it, with an objective in place of likelihood."""
  config.scorer = 'resnet'
  config.batch_size = 32
  config.real_nvp.alpha = config.jet.alpha = 0.05
  config.real_nvp.normalization = 'layer'
  config.real_nvp.channels = 32
  config.real_nvp.blocks = 2
  config.dcgan.channels = (256, 128, 64)
  config.dcgan_critic.channels = (64, 128, 256)
  config.optimizer.schedule = config.critic_optimizer.schedule = 'cosine'
  if size == 'jet':
    config.generator, config.condition = 'jet', 'label'
    config.jet.couplings = 20
    config.batch_size = 64
  if not kind:
    config.ema_decay = 0.998
    config.optimizer.learning_rate = 2e-3
    config.steps, config.eval_every = 20_000, 2000
    if size == 'jet':
      config.optimizer.learning_rate = 1.5e-3
      config.optimizer.warmup_steps = 100
      config.optimizer.beta_2 = 0.99
  else:
    # A relativistic critic, which sees the samples of the flow's own step.
    config.objective = 'hybrid' if kind == 'hybrid' else 'adversarial'
    config.divergence = 'relativistic'
    config.reuse_batch = True
    config.critic_steps, config.critic_warmup = 1, 200
    config.gradient_penalty, config.penalty_interval = 0.05, 4
    config.steps, config.eval_every = 3000, 500
    config.optimizer.learning_rate = 2e-4
    config.optimizer.beta_1 = 0.5
    config.optimizer.warmup_steps = 100
    config.critic_optimizer.learning_rate = 5e-4
    config.critic_optimizer.beta_1 = 0.0
    config.critic_optimizer.beta_2 = 0.99
    if kind == 'hybrid':  # It starts from a trained flow.
      config['lambda'] = 0.002
      config.init_from = f'runs/cifar10-{size}'
    if kind == 'dcgan':
      config.generator = 'dcgan'
