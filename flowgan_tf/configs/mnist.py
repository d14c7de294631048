"""MNIST, NICE and critic at the paper's size. Expects MNIST prepared by TFDS, or downloads it.

bin/train --config=configs/mnist.py --objective=mle           10,000 steps
bin/train --config=configs/mnist.py --objective=adversarial
bin/train --config=configs/mnist.py --objective=hybrid --lambda=0.1
"""

from ml_collections import config_dict

from flowgan_tf.training.config import default_config


def get_config() -> config_dict.ConfigDict:
  """The paper's flow with layer norm, its critic, and a learning rate that falls to zero."""
  config = default_config()
  config.dataset = 'mnist'
  config.steps = 10_000
  config.optimizer.learning_rate = 5e-4
  config.critic_optimizer.beta_1 = 0.0
  config.optimizer.schedule = config.critic_optimizer.schedule = 'cosine'
  return config
