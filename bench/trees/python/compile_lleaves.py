"""usage: compile_lleaves.py MODEL.txt OUT.so: LightGBM text to machine code by lleaves, linked into a shared library."""

import subprocess
import sys
from pathlib import Path

import lleaves

model, out = sys.argv[1], Path(sys.argv[2])
compiled = out.with_suffix(".o")
compiled.unlink(missing_ok=True)
# finline=True takes many minutes of compilation for models of this size.
lleaves.Model(model_file=model).compile(cache=str(compiled), raw_score=True, finline=False, froot_func_name="forest_root")
subprocess.run(["gcc", "-shared", "-o", out, compiled, "-lm"], check=True)
