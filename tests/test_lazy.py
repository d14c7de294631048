import sys

import pytest

from flowgan_tf.lazy import offer


@pytest.fixture
def package(tmp_path, monkeypatch):
  """A package with a module that holds two names."""
  folder = tmp_path / 'offering'
  folder.mkdir()
  (folder / '__init__.py').write_text("""
from flowgan_tf.lazy import offer
here = 1
__getattr__, __dir__ = offer(__name__, {'module': ['first', 'second']})
""")
  (folder / 'module.py').write_text('first, second, third = [1], [2], [3]')
  monkeypatch.syspath_prepend(tmp_path)
  yield 'offering'
  for name in ('offering', 'offering.module'):
    sys.modules.pop(name, None)


def test_a_module_is_imported_with_the_first_of_its_names(package):
  offering = __import__(package)
  assert {'here', 'first', 'second'} <= set(dir(offering)) and 'third' not in dir(offering)
  assert 'offering.module' not in sys.modules
  assert offering.second == [2] and offering.first is sys.modules['offering.module'].first


def test_the_module_itself_is_there(package):
  assert __import__(package).module.third == [3]


def test_other_names_are_no_attributes():
  get, _ = offer('offering', {'module': ['first']})
  with pytest.raises(AttributeError, match=r"^module 'offering' has no attribute 'third'$"):
    get('third')
