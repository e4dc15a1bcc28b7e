"""Write a weights file as it is shipped: float16, with fitted codes.

    python tools/ship.py weights/nice.safetensors weights/pretrained.safetensors

Codes that the source carries are kept; where it has none, they are fitted to --data, with which
the flow was trained. Source and output may be one file. With --beside only the codes are written,

    python tools/ship.py --beside weights/deep.safetensors weights/deep.codes.safetensors

so that a weights file need not be replaced when its codes are.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support import cli, options


def parse():
    parser = options.Parser("Write a weights file as it is shipped: float16, with fitted codes.")
    parser.add_argument("source", help="weights file")
    parser.add_argument("output", help="weights file to write")
    options.add_places(parser, "data")
    parser.add_argument(
        "--beside", action="store_true", help="codes alone, for source as it is: see codes.beside"
    )
    return parser.parse_args()


if __name__ == "__main__":
    args = cli.start(parse)

import numpy as np
from keras import ops

import codes
import nice
from support import checkpoint, files
from support.errors import UserError


def half(name, array):
    """float32 -> float16, but for the shares of codes, which sum to 1.

    Raises: `UserError` for numbers that float16 cannot hold.
    """
    array = ops.convert_to_numpy(array)
    if array.dtype != np.float32 or name == "codes/shares":
        return array
    if np.abs(array).max(initial=0) > np.finfo("float16").max:
        raise UserError(f"{name} has numbers too large for float16.")
    return array.astype("float16")


def main(args):
    files.check_output(args.output, ".safetensors", [args.source, args.data])
    trained = nice.load(args.source)
    fitted = codes.fitted(trained, args.data).arrays()
    arrays, described = dict(fitted), {"of": codes.digest(args.source)}
    if not args.beside:
        arrays, described = checkpoint.named(trained.encoder) | fitted, trained.configuration
    arrays = {name: half(name, array) for name, array in arrays.items()}
    checkpoint.save(args.output, arrays, described)
    print(
        f"codes: {len(trained.codes.labels)} groups of {len(trained.codes.classes)} classes, "
        f"{sum(arrays[name].nbytes for name in fitted) / 1e6:.2f} MB\n"
        f"{args.output}: {os.path.getsize(args.output) / 1e6:.2f} MB"
    )


if __name__ == "__main__":
    cli.run(main, args)
