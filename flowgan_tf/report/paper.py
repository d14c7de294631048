"""The numbers of the paper, to stand beside ours.

Aditya Grover, Manik Dhar, Stefano Ermon. Flow-GAN: Combining Maximum Likelihood and Adversarial Learning in Generative
Models. AAAI 2018. https://arxiv.org/abs/1705.08868
"""

__all__ = ['ESTIMATES', 'GENERATORS', 'LOG_DETS', 'TABLES']

GENERATORS = {'mnist': 'nice', 'cifar10': 'real_nvp'}

# Tables 1 and 2: score and test NLL, in the unit of the table.
TABLES = {
  'mnist': {
    'number': 1,
    'unit': 'nats',
    'score': 'mode_score',
    'rows': {'MLE': (7.42, -3334.56), 'ADV': (9.24, -1604.09), 'Hybrid λ = 0.1': (9.37, -3342.95)},
  },
  'cifar10': {
    'number': 2,
    'unit': 'bits/dim',
    'score': 'inception_score',
    'rows': {'MLE': (2.92, 3.54), 'ADV': (5.76, 8.53), 'Hybrid λ = 1': (3.90, 4.21)},
  },
}

# Table 3: exact NLL, and estimates by AIS and KDE, nats; of the checkpoints with the best MODE score.
ESTIMATES = {
  'mnist': {
    'MLE': (-3287.69, -2584.40, -167.10),
    'ADV': (26350.30, -2916.10, -3.03),
    'Hybrid λ = 0.1': (-3121.53, -2703.03, -205.69),
  },
}

# Section 5.1 and appendix D: mean log-determinant of the generator's Jacobian, nats.
LOG_DETS = {
  'mnist': {'MLE': -4170.34, 'ADV': -15588.34, 'Hybrid λ = 0.1': -5184.40},
  'cifar10': {'MLE': -12818.84, 'ADV': -21848.09, 'Hybrid λ = 1': -14729.51},
}
