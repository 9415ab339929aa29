"""onnxruntime-web: the package of npm that runs a network in a browser. It is fetched when somebody asks for a page.

``GFOCAL_HOME/runtimes/onnxruntime-web-VERSION`` keeps the two files of it that a page needs.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gfocal.catalogue.download import download, fetched_before
from gfocal.catalogue.home import delete_fetched, download_file, home, with_parts
from gfocal.catalogue.settings import is_offline, mirror, timeout, web_folder
from gfocal.catalogue.web import CannotFetch, CutOff
from gfocal.errors import GfocalError, UsageError
from gfocal.utils.files import write_atomically
from gfocal.utils.locks import locked_file
from gfocal.utils.progress import notice
from gfocal.utils.text import Say, program

NAME, VERSION = "onnxruntime-web", "1.30.0"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
"""Of the package, npm's ``dist.integrity`` of which is :data:`INTEGRITY`."""
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
BYTES = 33_106_585
LICENCE = "MIT"
REGISTRY = "https://registry.npmjs.org"

SCRIPT = "ort.webgpu.bundle.min.mjs"
WASM = "ort-wasm-simd-threaded.asyncify.wasm"
"""One build for WebGPU and the processor, so that a page holds one of them."""
_LARGEST = 2**26  # bytes of a file of the package


@dataclass(frozen=True)
class WebRuntime:
    """What a page takes of the package.

    Attributes:
        version: of the package.
        script: JavaScript, a module.
        wasm: WebAssembly.
    """

    version: str
    script: bytes
    wasm: bytes


def web_runtime(given: Path | None = None, say: Say = notice) -> WebRuntime:
    """The package: what ``given`` names, or what is kept in GFOCAL_HOME, or fetched.

    Args:
        given: the package as npm packs it (.tgz), or a folder with its files, such as
            ``node_modules/onnxruntime-web``.
        say: gets lines about what is fetched, from where, how large it is, and under which licence.

    Raises:
        UsageError: ``given`` is not the package, or there may be no connection (GFOCAL_OFFLINE).
        GfocalError: it cannot be had.
    """
    if given is not None:
        found = _read(given)
        if found.version != VERSION:
            say(f"note: {given} is {NAME} {found.version or 'of an unknown version'}; pages are tested with {VERSION}")
        return found
    folder = home() / "runtimes" / f"{NAME}-{VERSION}"
    with locked_file(folder, wait=True, say=say):
        if not (folder / WASM).is_file():
            _fetch(folder, say)
        return _read(folder)


def address() -> str:
    """Where the package is: a mirror's folder (GFOCAL_MIRROR), or npm's registry (NPM_CONFIG_REGISTRY).

    Raises:
        UsageError: a variable is no address.
    """
    file = f"{NAME}-{VERSION}.tgz"
    if (folder := mirror()) is not None:
        return f"{folder}/{file}"
    given = next(
        (os.environ[name] for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry") if name in os.environ), ""
    )
    return f"{web_folder('NPM_CONFIG_REGISTRY', given.strip() or REGISTRY, REGISTRY)}/{NAME}/-/{file}"


def _fetch(folder: Path, say: Say) -> None:
    """Fetch the package, compare it with what was published, and keep what is needed."""
    package = download_file(f"{NAME}-{VERSION}.tgz")
    by_hand = f"`npm pack {NAME}@{VERSION}` gives the same file, and --runtime FILE takes it"
    before = fetched_before(package)
    put_there = package.is_file() and (before is None or before.sha256 != SHA256)
    if package.is_file():
        after = "it stays, and is not needed any more afterwards" if put_there else "an earlier call has left it"
        say(f"note: {package} is there, and taken; {after}")
        if not _sum(package) == SHA256:
            raise UsageError(
                f"{package} is not {NAME} {VERSION} as npm publishes it: delete it, and repeat the command"
            )
    else:
        if (variable := is_offline()) is not None:
            raise UsageError(f"{NAME} {VERSION} is not in {home()}, and {variable} forbids connections; {by_hand}")
        url = address()
        say(f"a page needs {NAME} {VERSION} of npm: {url}, {BYTES / 1e6:.1f} MB, licence {LICENCE}; it is kept")
        try:
            download(url, package, sha256=SHA256, timeout=timeout(), say=say, noted=True)
        except CutOff as error:
            kept = " What came is kept: repeat the command to go on." if with_parts(package)[1].exists() else ""
            raise GfocalError(f"{NAME} could not be fetched: {error}.{kept} Or {by_hand}") from error
        except CannotFetch as error:
            raise GfocalError(f"{NAME} cannot be fetched: {error}. Or {by_hand}") from error
    found = _read(package)
    for name, content in (("package.json", _about(found.version)), (SCRIPT, found.script), (WASM, found.wasm)):
        write_atomically(folder / name, _writes(content))  # the largest last: a folder without it is unfinished
    if not put_there:
        delete_fetched(package)
    say(f"{NAME} {VERSION} is kept in {folder}; `rm -r` of it has it fetched again by the next `{program()} export`")


def _writes(content: bytes) -> Callable[[Path], object]:
    return lambda part: part.write_bytes(content)


def _about(version: str) -> bytes:
    return json.dumps({"name": NAME, "version": version, "license": LICENCE}).encode()


def _read(place: Path) -> WebRuntime:
    """The files of a package, packed or not.

    Raises:
        UsageError: it is not the package, or one of the files is missing.
    """
    if not place.exists():
        raise UsageError(f"there is no {place}: give {NAME} as npm packs it (.tgz), or a folder with its files")
    try:
        read = _in_folder if place.is_dir() else _in_package
        about, script, wasm = read(place, ("package.json", SCRIPT, WASM))
        content = json.loads(about)
        name, version = (str(content.get(key, "")) for key in ("name", "version")) if content else ("", "")
    except (OSError, EOFError, tarfile.TarError, ValueError, AttributeError) as error:
        words = str(error).partition(": - ")[0]  # tarfile lists what each way to unpack says
        raise UsageError(f"{place} is not {NAME} as npm packs it, or is damaged ({words})") from None
    if name != NAME:
        raise UsageError(f"{place} is the package {name or 'of no name'}, not {NAME}")
    return WebRuntime(version, script, wasm)


def _in_folder(folder: Path, names: tuple[str, ...]) -> list[bytes]:
    """Files of a folder or of its ``dist``."""
    places = [next((p for p in (folder / name, folder / "dist" / name) if p.is_file()), None) for name in names]
    if None in places:
        raise OSError(f"it has no {names[places.index(None)]}")
    return [place.read_bytes() for place in places if place is not None]


def _in_package(package: Path, names: tuple[str, ...]) -> list[bytes]:
    """Files of an archive; nothing of it is unpacked to the disk."""
    with tarfile.open(package, "r:*") as archive:
        wanted = {f"package/{name}": name for name in names} | {f"package/dist/{name}": name for name in names}
        found: dict[str, bytes] = {}
        for member in archive:
            name = wanted.get(member.name)
            if name is None or name in found or not member.isfile():
                continue
            if member.size > _LARGEST:
                raise ValueError(f"{name} in it has {member.size:,} bytes")
            stream = archive.extractfile(member)
            assert stream is not None
            found[name] = stream.read()
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"it has no {missing[0]}")
    return [found[name] for name in names]


def _sum(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
