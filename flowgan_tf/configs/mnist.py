"""MNIST: NICE and critic at the paper's size. The data are downloaded unless TFDS has prepared them.

bin/train --config=configs/mnist.py --objective=mle --steps=2000              5 minutes: test NLL -3,294 nats, MODE 5.6
bin/train --config=configs/mnist.py --objective=adversarial --steps=1000     13 minutes: test NLL 266 nats, MODE 4.7
bin/train --config=configs/mnist.py --objective=hybrid --steps=1000          20 minutes: test NLL -3,223 nats, MODE 6.6

Measured on 2 CPU cores shared with other work. Without --steps it trains for 10,000, which has not been measured.
"""

from ml_collections import config_dict

from flowgan_tf.runs.config import default_config


def get_config() -> config_dict.ConfigDict:
  """Returns the paper's flow with layer norm, its critic, and learning rates that fall to zero."""
  config = default_config()
  config.dataset = 'mnist'
  config.steps = 10_000
  config.optimizer.learning_rate = 5e-4
  config.optimizer.schedule = config.critic_optimizer.schedule = 'cosine'
  config.critic_optimizer.beta_1 = 0.0
  return config
