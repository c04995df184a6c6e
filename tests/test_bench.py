"""What the benchmarks run in other languages is right where that language is there."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.shared import REPOSITORY

SCRIPT = REPOSITORY / "bench" / "peers" / "lxp_decode.rb"
RUBY = shutil.which("ruby") or ""
STAND_IN = """
module LXP
  module Packet
    class Parser
      def self.parse(frame)
        raise 'bytes expected' unless frame.encoding == Encoding::BINARY && frame.bytes.first == 0xA1
        { soc: 50 }
      end
    end

    class WriteSingle
      attr_accessor :datalog_serial, :inverter_serial, :register, :value

      def to_bin
        raise 'incomplete' unless datalog_serial && inverter_serial && register && value
      end
    end
  end
end
"""
"""Its library, as far as the script uses it: the real one comes from a checkout that a test run does not have."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([RUBY, str(SCRIPT), *arguments], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.skipif(not RUBY, reason="no ruby here")
def test_the_ruby_script_measures_what_it_loads(tmp_path: Path) -> None:
    (tmp_path / "lib" / "lxp").mkdir(parents=True)
    (tmp_path / "lib" / "lxp" / "packet.rb").write_text(STAND_IN)
    done = run(str(tmp_path), "a11a02")
    told = json.loads(done.stdout)
    assert told.keys() == {"values", "encode"}, done.stderr
    assert all(value > 0 for value in told.values())


@pytest.mark.skipif(not RUBY, reason="no ruby here")
@pytest.mark.parametrize("checkout", ["", "/nowhere"])
def test_the_ruby_script_says_in_one_line_that_its_library_is_missing(checkout: str) -> None:
    done = run(checkout, "a11a02")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("lxp-packet is not there: ")
