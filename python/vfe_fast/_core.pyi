"""
The compiled kernels. Arguments are checked here; vfe_fast is the face.
"""

from __future__ import annotations
import collections.abc
import enum
import numpy
import numpy.typing
import typing
import typing_extensions

__all__: list[str] = [
    "Family",
    "IsingSums",
    "Prepared",
    "Probe",
    "RbmProducts",
    "RbmSums",
    "TargetUnavailableError",
    "anneal",
    "ascend",
    "bernoulli",
    "borrow_device_array",
    "build_info",
    "check_rbm",
    "contrast",
    "coth_excess",
    "coth_excess_slope",
    "cuda_device",
    "cuda_stream",
    "cumulant_terms",
    "cumulants",
    "cumulants_of_sums",
    "empty_cuda_cache",
    "exact_ising",
    "exact_rbm",
    "exact_rbm_ranges",
    "exp",
    "exp_excess",
    "expm1",
    "flat_histogram",
    "free_energy",
    "gaussian_gibbs",
    "gibbs",
    "hamiltonian",
    "join_power_sums",
    "lend_device_array",
    "let_cuda_stream_wait",
    "log",
    "log1p_unit",
    "log_likelihood",
    "log_likelihood_backward",
    "noise",
    "noise_float32",
    "normal_float32",
    "normal_float64",
    "normal_pair",
    "normal_pair_float32",
    "on_device",
    "pack_states",
    "pair_sums",
    "philox4x32",
    "product",
    "random_words",
    "reparameterize",
    "reparameterize_backward",
    "require_device",
    "roofline",
    "sigmoid",
    "softplus",
    "to_device",
    "to_host",
    "uniform_float32",
    "uniform_float64",
    "unpack_states",
    "use_cuda_library",
    "use_cuda_stream",
    "use_target",
    "version",
]

class Prepared:
    """
    What kernels keep of checked, read-only parameters between calls.
    """
    def __init__(self) -> None: ...
    def with_other_biases(self) -> Prepared:
        """
        The same for the same weights with other biases.
        """

class TargetUnavailableError(RuntimeError):
    pass

class IsingSums(enum.Enum):
    """
    What exact_ising adds up besides Z.
    """

    log_z: typing.ClassVar[IsingSums]
    moments: typing.ClassVar[IsingSums]
    variance: typing.ClassVar[IsingSums]
    @classmethod
    def __new__(cls, value): ...

class RbmSums(enum.Enum):
    """
    What exact_rbm adds up besides Z.
    """

    log_z: typing.ClassVar[RbmSums]
    moments: typing.ClassVar[RbmSums]
    variance: typing.ClassVar[RbmSums]
    @classmethod
    def __new__(cls, value): ...

class RbmProducts(enum.Enum):
    """
    The products exact_rbm may use.
    """

    double: typing.ClassVar[RbmProducts]
    none: typing.ClassVar[RbmProducts]
    single: typing.ClassVar[RbmProducts]
    @classmethod
    def __new__(cls, value): ...

class Family(enum.IntEnum):
    """
    Families of distributions that are sampled from noise.
    """

    concrete: typing.ClassVar[Family]
    gaussian: typing.ClassVar[Family]
    gumbel_softmax: typing.ClassVar[Family]
    laplace: typing.ClassVar[Family]
    log_normal: typing.ClassVar[Family]
    logistic: typing.ClassVar[Family]
    @classmethod
    def __new__(cls, value): ...
    def __format__(self, format_spec): ...

class Probe(enum.Enum):
    """
    What `roofline` measures.
    """

    copy: typing.ClassVar[Probe]
    fma_float32: typing.ClassVar[Probe]
    fma_float64: typing.ClassVar[Probe]
    mul_add_float32: typing.ClassVar[Probe]
    mul_add_float64: typing.ClassVar[Probe]
    philox: typing.ClassVar[Probe]
    read: typing.ClassVar[Probe]
    write: typing.ClassVar[Probe]
    @classmethod
    def __new__(cls, value): ...

def anneal(
    weights: numpy.ndarray,
    visible_bias: numpy.ndarray,
    hidden_bias: numpy.ndarray,
    base: numpy.ndarray,
    start: numpy.typing.NDArray[numpy.uint64],
    *,
    betas: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    log_weights: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    stay: bool,
    seed: typing.SupportsInt | typing.SupportsIndex,
    chain_offset: typing.SupportsInt | typing.SupportsIndex,
    step_offset: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex,
    prepared: Prepared = None,
) -> tuple[
    numpy.typing.NDArray[numpy.uint64],
    numpy.typing.NDArray[numpy.float64],
    numpy.typing.NDArray[numpy.float64],
]:
    """
    Packed visible states, log weights and increments of chains that pass `betas` from `start`.
    """

def ascend(
    x: numpy.ndarray,
    gradient: numpy.ndarray,
    *,
    rate: typing.SupportsFloat | typing.SupportsIndex,
    momentum: typing.SupportsFloat | typing.SupportsIndex,
    decay: typing.SupportsFloat | typing.SupportsIndex,
    memory: typing.SupportsFloat | typing.SupportsIndex = 0.0,
    epsilon: typing.SupportsFloat | typing.SupportsIndex = 0.0,
    velocity: numpy.ndarray | None = None,
    squares: numpy.ndarray | None = None,
    row_offset: numpy.ndarray | None = None,
    column_offset: numpy.ndarray | None = None,
    row_change: numpy.ndarray | None = None,
    column_change: numpy.ndarray | None = None,
    num_threads: typing.SupportsInt | typing.SupportsIndex,
) -> tuple[
    numpy.ndarray, numpy.ndarray | None, numpy.ndarray | None, numpy.ndarray | None, numpy.ndarray | None
]:
    """
    x after an update, and what belongs to it: velocity, squares, sums over columns and rows (None if not given).
    """

def bernoulli(
    x: typing.SupportsFloat | typing.SupportsIndex,
    leading: typing.SupportsInt | typing.SupportsIndex,
    further: typing.SupportsInt | typing.SupportsIndex,
) -> bool:
    """
    The decision of the Gibbs kernel, P(True) = sigmoid(x), from 16 random bits and, if they tie, 64 more.
    """

def borrow_device_array(capsule: typing_extensions.CapsuleType) -> numpy.ndarray:
    """
    Takes over a DLPack capsule: an array whose elements Python must not touch.
    """

def build_info() -> dict[str, typing.Any]:
    """
    What was compiled, what was found, and what is in use.
    """

def check_rbm(
    weights: numpy.ndarray,
    visible_bias: numpy.ndarray,
    hidden_bias: numpy.ndarray,
    *,
    biases_only: bool = False,
) -> None:
    """
    Raises unless the arrays are the parameters of an RBM: dtype, shapes, finite numbers.
    """

def contrast(
    weights: numpy.ndarray,
    visible_bias: numpy.ndarray,
    hidden_bias: numpy.ndarray,
    data: numpy.typing.NDArray[numpy.uint64],
    start: numpy.typing.NDArray[numpy.uint64] | None,
    *,
    n_steps: typing.SupportsInt | typing.SupportsIndex,
    seed: typing.SupportsInt | typing.SupportsIndex,
    step_offset: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex,
    prepared: Prepared = None,
) -> tuple[
    numpy.ndarray,
    numpy.ndarray,
    numpy.ndarray,
    numpy.ndarray,
    numpy.ndarray,
    numpy.typing.NDArray[numpy.uint64],
    numpy.typing.NDArray[numpy.uint64],
]:
    """
    Averages over data less those over chains after n_steps from `start`, or from the data; all, and the chains.
    """

def coth_excess(
    x: numpy.ndarray, *, num_threads: typing.SupportsInt | typing.SupportsIndex = 0
) -> numpy.ndarray:
    """
    x coth(x / 2) - 2, in float64.
    """

def coth_excess_slope(
    x: numpy.ndarray, *, num_threads: typing.SupportsInt | typing.SupportsIndex = 0
) -> numpy.ndarray:
    """
    The derivative of coth_excess.
    """

def cuda_device() -> int:
    """
    The number of the CUDA device in use.
    """

def cuda_stream() -> int:
    """
    Where this thread's kernels and copies go.
    """

def cumulant_terms(n: typing.SupportsFloat | typing.SupportsIndex, unbiased: bool) -> list:
    """
    The products of moments in cumulants of n numbers: (order, part, rest, coefficient), where the product is the moment `part` times product `rest`, counted from 1; 0 is none.
    """

def cumulants(
    x: numpy.ndarray,
    weights: numpy.ndarray | None,
    order: typing.SupportsInt | typing.SupportsIndex,
    unbiased: bool,
    counts: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    wanted: str,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    cuda: bool = False,
) -> tuple[
    numpy.typing.NDArray[numpy.float64] | None,
    numpy.typing.NDArray[numpy.float64] | None,
    numpy.typing.NDArray[numpy.float64] | None,
    numpy.typing.NDArray[numpy.float64] | None,
]:
    """
    Of `wanted`, letters of 'vers': cumulants along the last axis, their errors, estimates without each block, sums.
    """

def cumulants_of_sums(
    sums: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    *,
    order: typing.SupportsInt | typing.SupportsIndex,
    weighted: bool,
    unbiased: bool,
    counts: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    wanted: str,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    cuda: bool = False,
) -> tuple[
    numpy.typing.NDArray[numpy.float64] | None,
    numpy.typing.NDArray[numpy.float64] | None,
    numpy.typing.NDArray[numpy.float64] | None,
]:
    """
    The same from sums, without data.
    """

def empty_cuda_cache() -> None:
    """
    Gives idle device memory back to the driver.
    """

def exact_ising(
    couplings: numpy.ndarray,
    fields: numpy.ndarray,
    *,
    beta: typing.SupportsFloat | typing.SupportsIndex,
    what: IsingSums,
    energy: typing.SupportsFloat | typing.SupportsIndex = 0.0,
    range_states: typing.SupportsInt | typing.SupportsIndex,
    first_range: typing.SupportsInt | typing.SupportsIndex,
    n_ranges: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex,
    cuda: bool = False,
) -> numpy.typing.NDArray[numpy.float64]:
    """
    Sums of some ranges of states, a row each, as src/cpp/kernels/exact_ising.hpp has them.
    """

def exact_rbm(
    weights: numpy.ndarray,
    visible_bias: numpy.ndarray,
    hidden_bias: numpy.ndarray,
    *,
    beta: typing.SupportsFloat | typing.SupportsIndex,
    what: RbmSums,
    energy: typing.SupportsFloat | typing.SupportsIndex = 0.0,
    first_range: typing.SupportsInt | typing.SupportsIndex,
    n_ranges: typing.SupportsInt | typing.SupportsIndex,
    products: RbmProducts,
    num_threads: typing.SupportsInt | typing.SupportsIndex,
    cuda: bool = False,
) -> tuple[numpy.typing.NDArray[numpy.float64], bool, bool]:
    """
    Sums of some ranges of states, a row each, as src/cpp/kernels/exact_rbm.hpp has them, whether they were found in product form, and whether in float32.
    """

def exact_rbm_ranges(
    n_enumerated: typing.SupportsInt | typing.SupportsIndex,
    n_others: typing.SupportsInt | typing.SupportsIndex,
) -> int:
    """
    Ranges that the states of the smaller layer are cut in.
    """

def exp(x: numpy.ndarray, *, num_threads: typing.SupportsInt | typing.SupportsIndex = 0) -> numpy.ndarray:
    """
    e^x.
    """

def exp_excess(
    x: numpy.ndarray, *, num_threads: typing.SupportsInt | typing.SupportsIndex = 0
) -> numpy.ndarray:
    """
    e^x - 1 - x.
    """

def expm1(x: numpy.ndarray, *, num_threads: typing.SupportsInt | typing.SupportsIndex = 0) -> numpy.ndarray:
    """
    e^x - 1.
    """

def flat_histogram(
    couplings: numpy.ndarray,
    fields: numpy.ndarray,
    *,
    offset: typing.SupportsFloat | typing.SupportsIndex,
    increment: numpy.ndarray,
    decay: numpy.ndarray,
    low: typing.SupportsInt | typing.SupportsIndex,
    high: typing.SupportsInt | typing.SupportsIndex,
    spins: numpy.typing.NDArray[numpy.int8],
    log_g: numpy.typing.NDArray[numpy.float64],
    histogram: numpy.typing.NDArray[numpy.uint64],
    visited: numpy.typing.NDArray[numpy.uint8],
    way: numpy.typing.NDArray[numpy.uint8],
    trips: numpy.typing.NDArray[numpy.int64],
    n_sweeps: typing.SupportsInt | typing.SupportsIndex,
    seed: typing.SupportsInt | typing.SupportsIndex,
    sweep_offset: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex,
) -> None:
    """
    Moves walkers on, in place: spins, log_g, histogram, visited, way and trips.
    """

def free_energy(
    weights: numpy.ndarray,
    visible_bias: numpy.ndarray,
    hidden_bias: numpy.ndarray,
    visible: numpy.typing.NDArray[numpy.uint64],
    beta: typing.SupportsFloat | typing.SupportsIndex,
    free_energy: bool,
    mean_hidden: bool,
    num_threads: typing.SupportsInt | typing.SupportsIndex,
    exchanged: bool = False,
    prepared: Prepared = None,
    cuda: bool = False,
) -> tuple[typing.Any, typing.Any]:
    """
    Clamped free energies and mean hidden states of packed visible states; None for what is not asked for.
    """

def gaussian_gibbs(
    weights: numpy.ndarray,
    visible_bias: numpy.ndarray,
    hidden_bias: numpy.ndarray,
    sigma: numpy.ndarray,
    start: numpy.ndarray,
    n_steps: typing.SupportsInt | typing.SupportsIndex,
    beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    clamped: typing.Annotated[numpy.typing.ArrayLike, numpy.uint64] | None,
    seed: typing.SupportsInt | typing.SupportsIndex,
    chain_offset: typing.SupportsInt | typing.SupportsIndex,
    step_offset: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex,
    prepared: Prepared = None,
) -> tuple[numpy.ndarray, numpy.typing.NDArray[numpy.uint64]]:
    """
    Real visible and packed hidden states after n_steps of block Gibbs sampling from `start`.
    """

def gibbs(
    weights: numpy.ndarray,
    visible_bias: numpy.ndarray,
    hidden_bias: numpy.ndarray,
    start: numpy.typing.NDArray[numpy.uint64],
    n_steps: typing.SupportsInt | typing.SupportsIndex,
    beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    clamped: typing.Annotated[numpy.typing.ArrayLike, numpy.uint64] | None,
    seed: typing.SupportsInt | typing.SupportsIndex,
    chain_offset: typing.SupportsInt | typing.SupportsIndex,
    step_offset: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex,
    prepared: Prepared = None,
    cuda: bool = False,
) -> tuple[numpy.typing.NDArray[numpy.uint64], numpy.typing.NDArray[numpy.uint64]]:
    """
    Packed visible and hidden states after n_steps of block Gibbs sampling from `start`.
    """

def hamiltonian(
    weights: numpy.ndarray,
    visible_bias: numpy.ndarray,
    hidden_bias: numpy.ndarray,
    sigma: numpy.ndarray,
    start: numpy.ndarray,
    *,
    beta: typing.SupportsFloat | typing.SupportsIndex,
    mass: numpy.ndarray,
    step: typing.SupportsFloat | typing.SupportsIndex,
    tested: bool,
    n_steps: typing.Annotated[numpy.typing.ArrayLike, numpy.int64],
    every: typing.SupportsInt | typing.SupportsIndex,
    seed: typing.SupportsInt | typing.SupportsIndex,
    move_offset: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex,
    prepared: Prepared = None,
) -> tuple[
    numpy.typing.NDArray[numpy.float64],
    numpy.typing.NDArray[numpy.float64],
    numpy.typing.NDArray[numpy.float64],
    numpy.typing.NDArray[numpy.int64],
]:
    """
    Samples, their U, sums of acceptance and divergent moves of Hamiltonian dynamics from `start`.
    """

def join_power_sums(
    a: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    b: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
) -> numpy.typing.NDArray[numpy.float64]:
    """
    Power sums of what two parts hold together.
    """

def lend_device_array(
    array: numpy.ndarray,
    device_id: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
) -> typing_extensions.CapsuleType:
    """
    A DLPack capsule of an array on a device, for who uses it on a stream (-1: on any).
    """

def let_cuda_stream_wait(stream: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Has another stream wait for what this thread's kernels have been given so far.
    """

def log(x: numpy.ndarray, *, num_threads: typing.SupportsInt | typing.SupportsIndex = 0) -> numpy.ndarray:
    """
    ln x for positive normal numbers.
    """

def log1p_unit(
    x: numpy.ndarray, *, num_threads: typing.SupportsInt | typing.SupportsIndex = 0
) -> numpy.ndarray:
    """
    ln(1 + x) for 0 <= x <= 1.
    """

def log_likelihood(
    logits: numpy.ndarray, x: numpy.ndarray, num_threads: typing.SupportsInt | typing.SupportsIndex
) -> numpy.ndarray:
    """
    ln p(x | z) of units with means in [0, 1], given logits (n_samples, n_rows, n_units).
    """

def log_likelihood_backward(
    logits: numpy.ndarray,
    x: numpy.ndarray,
    grad: numpy.ndarray,
    num_threads: typing.SupportsInt | typing.SupportsIndex,
) -> numpy.ndarray:
    """
    Its gradient by the logits, given that by ln p(x | z).
    """

def noise(
    first: typing.SupportsInt | typing.SupportsIndex, second: typing.SupportsInt | typing.SupportsIndex
) -> tuple[float, float, float]:
    """
    Exponential, Laplace and logistic numbers of float64 from two words.
    """

def noise_float32(word: typing.SupportsInt | typing.SupportsIndex) -> tuple[float, float, float]:
    """
    Exponential, Laplace and logistic numbers of float32 from a word.
    """

def normal_float32(
    shape: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
    seed: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    cuda: bool = False,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    Standard normal numbers.
    """

def normal_float64(
    shape: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
    seed: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    cuda: bool = False,
) -> numpy.typing.NDArray[numpy.float64]:
    """
    Standard normal numbers.
    """

def normal_pair(
    words: typing.Annotated[
        collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], "FixedSize(4)"
    ],
) -> typing.Annotated[list[float], "FixedSize(2)"]:
    """
    Two normal numbers of float64 from four words.
    """

def normal_pair_float32(
    first: typing.SupportsInt | typing.SupportsIndex, second: typing.SupportsInt | typing.SupportsIndex
) -> typing.Annotated[list[float], "FixedSize(2)"]:
    """
    Two normal numbers of float32 from two words.
    """

def on_device(array: numpy.ndarray) -> bool:
    """
    Whether the elements are on a device.
    """

def pack_states(
    states: numpy.ndarray, n_units: typing.SupportsInt | typing.SupportsIndex, name: str
) -> numpy.typing.NDArray[numpy.uint64]:
    """
    0/1 states (n_samples, n_units) to 64-bit words, unit u in bit u % 64 of word u // 64.
    """

def pair_sums(
    states: numpy.typing.NDArray[numpy.uint64],
    n_units: typing.SupportsInt | typing.SupportsIndex,
    values: numpy.ndarray,
    *,
    num_threads: typing.SupportsInt | typing.SupportsIndex,
) -> tuple[numpy.ndarray, numpy.typing.NDArray[numpy.int64]]:
    """
    Sums over samples of packed units times the columns of `values`, and of the units.
    """

def philox4x32(
    counter: typing.Annotated[
        collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], "FixedSize(4)"
    ],
    key: typing.SupportsInt | typing.SupportsIndex,
) -> typing.Annotated[list[int], "FixedSize(4)"]:
    """
    One block of Philox4x32-10.
    """

def product(
    a: numpy.ndarray,
    w: numpy.ndarray,
    bias: numpy.ndarray | None = None,
    *,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.ndarray:
    """
    a @ w + bias, the same bits for any number of threads and instruction set.
    """

def random_words(
    shape: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
    seed: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    cuda: bool = False,
) -> numpy.typing.NDArray[numpy.uint32]:
    """
    32-bit random words.
    """

def reparameterize(
    family: typing.SupportsInt | typing.SupportsIndex,
    mu: numpy.ndarray,
    log_var: numpy.ndarray | None,
    prior_mean: numpy.ndarray | None,
    prior_log_var: numpy.ndarray | None,
    n_samples: typing.SupportsInt | typing.SupportsIndex,
    temperature: typing.SupportsFloat | typing.SupportsIndex,
    seed: typing.SupportsInt | typing.SupportsIndex,
    row_offset: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex,
    log_prior: bool = False,
    cuda: bool = False,
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, numpy.ndarray | None]:
    """
    Samples, KL, log q and, if asked for, ln N(z; 0, 1).
    """

def reparameterize_backward(
    family: typing.SupportsInt | typing.SupportsIndex,
    mu: numpy.ndarray,
    log_var: numpy.ndarray | None,
    prior_mean: numpy.ndarray | None,
    prior_log_var: numpy.ndarray | None,
    n_samples: typing.SupportsInt | typing.SupportsIndex,
    temperature: typing.SupportsFloat | typing.SupportsIndex,
    seed: typing.SupportsInt | typing.SupportsIndex,
    row_offset: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex,
    grad_sample: numpy.ndarray | None,
    grad_kl: numpy.ndarray | None,
    grad_log_q: numpy.ndarray | None,
    sample: numpy.ndarray | None = None,
    grad_log_prior: numpy.ndarray | None = None,
    cuda: bool = False,
) -> tuple[numpy.ndarray, numpy.ndarray | None]:
    """
    Derivatives by mu and log_var, with the same noise: drawn again, or found from the samples.
    """

def require_device(cuda: bool) -> None:
    """
    Raises TargetUnavailableError, saying why, if the device cannot be used.
    """

def roofline(
    probe: Probe,
    *,
    seconds: typing.SupportsFloat | typing.SupportsIndex = 0.1,
    bytes: typing.SupportsInt | typing.SupportsIndex = 67108864,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
) -> float:
    """
    A peak of this machine: flop/s, bytes/s or random words/s over all threads.
    """

def sigmoid(x: numpy.ndarray, *, num_threads: typing.SupportsInt | typing.SupportsIndex = 0) -> numpy.ndarray:
    """
    1 / (1 + e^-x).
    """

def softplus(
    x: numpy.ndarray, *, num_threads: typing.SupportsInt | typing.SupportsIndex = 0
) -> numpy.ndarray:
    """
    ln(1 + e^x).
    """

def to_device(array: numpy.ndarray) -> numpy.ndarray:
    """
    A copy on the device in use.
    """

def to_host(array: numpy.ndarray) -> numpy.ndarray:
    """
    A copy in host memory.
    """

def uniform_float32(
    shape: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
    seed: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    cuda: bool = False,
) -> numpy.typing.NDArray[numpy.float32]:
    """
    Uniform numbers in (0, 1), 23 random bits each.
    """

def uniform_float64(
    shape: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
    seed: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    cuda: bool = False,
) -> numpy.typing.NDArray[numpy.float64]:
    """
    Uniform numbers in (0, 1), 52 random bits each.
    """

def unpack_states(
    words: numpy.typing.NDArray[numpy.uint64], n_units: typing.SupportsInt | typing.SupportsIndex
) -> numpy.typing.NDArray[numpy.uint8]:
    """
    Packed words to uint8 states (n_samples, n_units).
    """

def use_cuda_library(path: str) -> None:
    """
    Takes the CUDA twins of a library, or its own if that is empty; for tests/cuda_on_host.
    """

def use_cuda_stream(stream: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Where they go from now on: a cudaStream_t, 0 for the default stream.
    """

def use_target(name: str) -> None:
    """
    Switches the kernels to another instruction set; the tests go through all of them.
    """

def version() -> str:
    """
    Version of the package that this module was built for.
    """
