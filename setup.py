"""Packaging of flowgan_tf."""

import pathlib
import runpy

import setuptools

ROOT = pathlib.Path(__file__).parent


def requirements(name: str) -> list[str]:
  """The lines of requirements/`name`.txt that name a distribution."""
  lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
  return [line for line in lines if line and not line.startswith('#')]


setuptools.setup(
  name='flowgan-tf',
  version=runpy.run_path(str(ROOT / 'flowgan_tf' / 'version.py'))['__version__'],
  description='Flow-GAN: generators with exact likelihoods, trained by maximum likelihood, adversarially, or by both',
  long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  author='The flowgan_tf authors',
  license_expression='Apache-2.0',
  license_files=['LICENSE'],
  classifiers=[
    'Development Status :: 4 - Beta',
    'Intended Audience :: Science/Research',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
  ],
  packages=setuptools.find_packages(include=['flowgan_tf', 'flowgan_tf.*']),
  package_data={
    'flowgan_tf': ['py.typed', 'pretrained/*.md', 'pretrained/*.npy', 'pretrained/*.zip'],
    'flowgan_tf.report': ['page_template.html'],
  },
  python_requires='>=3.11,<3.14',
  install_requires=[*requirements('base'), 'tensorflow==2.21.*', 'tf-keras==2.21.*'],
  extras_require={
    'gpu': ['tensorflow[and-cuda]==2.21.*'],
    'test': requirements('test'),
  },
  entry_points={
    'console_scripts': [
      'flowgan-train=flowgan_tf.programs.start:train',
      'flowgan-evaluate=flowgan_tf.programs.start:evaluate',
      'flowgan-sample=flowgan_tf.programs.start:sample',
      'flowgan-export=flowgan_tf.programs.start:export',
      'flowgan-analyze=flowgan_tf.programs.start:analyze',
      'flowgan-report=flowgan_tf.programs.start:report',
      'flowgan-sweep=flowgan_tf.programs.start:sweep',
    ]
  },
)
