"""`fer-edge collect`: encrypted crops of faces that a node keeps for review."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_edge.cli.options import ConfigFile, Node
from fer_edge.cli.output import say, warn
from fer_edge.errors import InputError, printable
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from fer_edge_device.collect.folder import CollectFolder
    from fer_edge_device.config.settings import CollectSettings

app = typer.Typer(name="collect")

_MAX_PROBLEMS = 10  # that are printed for a host
Folder = Annotated[Path | None, typer.Option("--folder", help="The crops, instead of those of the configuration.")]


@app.callback(invoke_without_command=True)
def collect(context: typer.Context, folder: Folder = None, config: ConfigFile = None, node: Node = None) -> None:
    """Show whether this node keeps crops of faces for review, and how many there are.

    A node keeps them only where the configuration says collect.enabled = true, and encrypts them for a key that it
    does not have.

    \b
    Example: sudo fer-edge collect
    """
    if context.invoked_subcommand is not None:
        return
    settings, folders = _find(folder, config, node)
    say(f"collect.enabled = {str(settings.enabled).lower()}")
    for each in folders:
        if folder or each.exists():
            say(f"{printable(str(each.path))}: {counted(len(each.times()), 'crop')}, {each.size() / 1e6:.1f} MB")


@app.command()
def key(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="New file for the private key.")],
) -> None:
    """Make the key pair for crops, on your computer; only the public key goes to a node.

    The file is an identity of age (age-encryption.org), which only you can read. Whoever has it can see the crops, and
    nobody can without it: keep a copy in a safe place.

    \b
    Example: fer-edge collect key collect-key.txt
    """
    from fer_edge_device.collect.encryption import make_identity

    public_key = make_identity(out)
    say(f"{out}: the private key; keep it on this computer, and a copy in a safe place", error=True)
    say("what to put into the configuration of a node:", error=True)
    say("[collect]", "enabled = true", f'public_key = "{public_key}"')


@app.command()
def pull(
    hosts: Annotated[list[str], typer.Argument(help="user@host, or names of your ssh configuration.")],
    identity: Annotated[Path, typer.Option(help="File with the private key, which `fer-edge collect key` made.")],
    into: Annotated[Path, typer.Option(help="Folder for the faces, new or from an earlier pull.")],
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="FOLDER", help="Folder on the hosts; by default those of the service."),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete there what has safely arrived here.")] = False,
    ssh_config: Annotated[Path | None, typer.Option(help="ssh configuration, instead of your own.")] = None,
) -> None:
    """Bring crops from nodes over ssh, and decrypt them on this computer.

    The folder gets a PNG of each face, and faces.csv. Faces that are there already are not brought again. Needs an
    ssh key, and sudo without a password.

    \b
    Example: fer-edge collect pull pi@kitchen pi@hall --identity collect-key.txt --into faces/
    """
    from fer_edge.tagging.output.face_folder import FaceFolder
    from fer_edge_device.collect.encryption import Decryption
    from fer_edge_device.install.ssh import SshError
    from fer_edge_device.pull_faces import FILE_BYTES
    from fer_edge_device.pull_faces import pull as pull_from

    if ssh_config is not None and not ssh_config.is_file():
        raise InputError(f"{ssh_config}: no such file")
    decryption, folder = Decryption(identity), FaceFolder(into)
    if identity.stat().st_mode & 0o077:
        warn(f"{identity}: other users of this computer can read the private key; run: chmod 600 {identity}")
    failures = 0
    for host in hosts:
        try:
            summary = pull_from(host, decryption, folder, source=source, delete=delete, ssh_config=ssh_config)
        except SshError as error:  # the other hosts go on
            say(f"fer-edge: {error}", error=True)
            failures += 1
            continue
        deleted = f", {summary.deleted} deleted there" if delete else ""
        say(f"{host}: {counted(summary.faces, 'new face')}, {summary.known} known{deleted}")
        if summary.too_large:
            files = counted(summary.too_large, "file")
            warn(f"{host}: passed over {files} of more than {FILE_BYTES // 1000} kB, which no crop has")
        for problem in summary.problems[:_MAX_PROBLEMS]:
            say(f"fer-edge: {problem}", error=True)
        if len(summary.problems) > _MAX_PROBLEMS:
            say(f"fer-edge: {host}: and {len(summary.problems) - _MAX_PROBLEMS} more", error=True)
        failures += bool(summary.problems)
    say(f"{into}: {counted(len(folder), 'face')}")
    if failures:
        raise typer.Exit(1)


@app.command()
def delete(folder: Folder = None, config: ConfigFile = None, node: Node = None) -> None:
    """Delete all crops that this node keeps, also those of trials.

    A node that is switched on goes on collecting; collect.enabled = false ends that.

    \b
    Example: sudo fer-edge collect delete
    """
    _, folders = _find(folder, config, node)
    count = sum(each.delete_all() for each in folders)
    say(f"{printable(str(folders[0].path))}: deleted {counted(count, 'crop')}")


def _find(folder: Path | None, config: Path | None, node: str | None) -> tuple[CollectSettings, list[CollectFolder]]:
    """Return the settings of a node, and its folders or the given one."""
    from fer_edge_device.collect.folder import CollectFolder, find_collect_folders
    from fer_edge_device.config.load import SYSTEM_CONFIG, load_config

    settings = load_config(config, options={"node": node})
    if folder is None:
        return settings.collect, find_collect_folders(settings.collect, settings.node_name(), config or SYSTEM_CONFIG)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    return settings.collect, [CollectFolder(folder)]
