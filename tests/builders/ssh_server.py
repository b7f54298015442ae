"""SSH server: a real one on loopback, which runs commands as sshd does, for one key.

In: a folder for its keys. Out: the command of the client, to which a host and a command are added.

    with ssh_server(folder) as ssh: ...
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh

HOST = "127.0.0.1"


@contextmanager
def ssh_server(folder: Path) -> Iterator[str]:
    """Serve, in a process of its own, until the end of the block. Yields the client's command."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    (folder / "key").write_bytes(key.export_private_key())
    (folder / "key").chmod(0o600)
    (folder / "authorized").write_bytes(key.export_public_key())
    command = [sys.executable, "-m", "tests.builders.ssh_server", str(folder / "authorized")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        trust = "-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        yield f"ssh {trust} -o BatchMode=yes -q -i {folder / 'key'} -p {port}"
        server.terminate()


async def _serve(authorized: str) -> None:
    server = await asyncssh.listen(
        HOST,
        0,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        authorized_client_keys=authorized,
        process_factory=_run,
        encoding=None,
    )
    print(server.get_port(), flush=True)
    await asyncio.Event().wait()


async def _run(session: "asyncssh.SSHServerProcess[bytes]") -> None:
    """Run a command with the few variables that a login has; it ends with its connection."""
    variables = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_shell(
        session.command or "true",
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env={**variables, "SSH_CONNECTION": f"{HOST} 1 {HOST} 22"},
    )
    await session.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
    session.exit(await child.wait())


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
