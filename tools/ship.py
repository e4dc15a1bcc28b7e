"""Write a weights file as it is shipped: float16, with fitted codes.

    python tools/ship.py weights/nice.safetensors weights/pretrained.safetensors

Codes that the source carries are kept; where it has none, they are fitted to --data, with which
the flow was trained. With --beside they go into a file of their own, see `codes.beside`,

    python tools/ship.py --beside weights/deep.safetensors weights/deep.safetensors

so that weights need not be replaced when their codes are: those of the source stay as they are.
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
        "--beside", action="store_true", help="codes into OUTPUT.codes; output may be the source"
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


def write(path, arrays, description):
    arrays = {name: half(name, array) for name, array in arrays.items()}
    checkpoint.save(path, arrays, description)
    print(f"{path}: {os.path.getsize(path) / 1e6:.2f} MB")


def main(args):
    codes_alone = args.beside and args.output == args.source
    files.check_output(args.output, ".safetensors", [args.data] + [args.source] * (not codes_alone))
    trained = nice.load(args.source)
    weights, fitted = checkpoint.named(trained.encoder), codes.fitted(trained, args.data).arrays()
    if not codes_alone:
        write(args.output, weights | ({} if args.beside else fitted), trained.configuration)
    if args.beside:
        write(codes.beside(args.output), fitted, {"of": codes.digest(args.output)})


if __name__ == "__main__":
    cli.run(main, args)
