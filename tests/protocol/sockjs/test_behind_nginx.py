"""The nginx configuration of docs/sockjs.md, word for word but for its addresses, before two machines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.protocol.sockjs.echoing import Answer, service
from tests.server import ROOT, free_port

PREAMBLE = """
pid {directory}/pid;
error_log {directory}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {documented}
}}
"""


@asynccontextmanager
async def nginx(directory: Path, addresses: list[str]) -> AsyncIterator[str]:
    """nginx as documented, before servers at these addresses; its own address."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/bin:/opt/homebrew/bin")
    if program is None:
        pytest.skip("there is no nginx on this machine")
    found = re.search(r"```nginx\n(.*?)```", (ROOT / "docs" / "sockjs.md").read_text(), re.DOTALL)
    assert found is not None
    port = free_port()
    documented = found[1].replace("listen 80;", f"listen 127.0.0.1:{port};")
    for number, address in enumerate(addresses, 1):
        assert f"10.0.0.{number}:8000" in documented
        documented = documented.replace(f"10.0.0.{number}:8000", address)
    directory.chmod(0o755)
    configuration = directory / "nginx.conf"
    configuration.write_text(PREAMBLE.format(directory=directory, documented=documented))
    command = [program, "-p", str(directory), "-c", str(configuration), "-e", str(directory / "error.log")]
    process = await asyncio.create_subprocess_exec(*command, "-g", "daemon off; master_process off;")
    try:
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    await writer.wait_closed()
                    break
                assert process.returncode is None, (directory / "error.log").read_text()
                await asyncio.sleep(0.02)
        yield f"127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_sessions_stay_on_their_machine(tmp_path: Path) -> None:
    directories = [tmp_path / name for name in ("first", "second", "nginx")]
    for each in directories:
        each.mkdir()
    async with (
        service(directories[0]) as first,
        service(directories[1]) as second,
        nginx(directories[2], [first.address, second.address]) as address,
        httpx.AsyncClient(base_url=f"http://{address}/ws/", headers={"Host": "localhost"}, timeout=10) as client,
    ):
        for _ in range(16):
            url = f"000/{secrets.token_hex(8)}"
            assert (await client.post(f"{url}/xhr")).text == "o\n"
            for body in ('["a"]', '["b"]'):
                assert (await client.post(f"{url}/xhr_send", content=body)).status_code == 204
                assert (await client.post(f"{url}/xhr")).text == f"a{body}\n"
        assert len(first.sessions) + len(second.sessions) == 16
        assert min(len(first.sessions), len(second.sessions)) > 0

        # A streaming answer comes as it is written.
        url = f"000/{secrets.token_hex(8)}"
        async with client.stream("POST", f"{url}/xhr_streaming") as response:
            answer = Answer(response)
            assert (await answer.read(2051))[-2:] == b"o\n"
            large = json.dumps(["x" * 1_500_000])
            for body in ('["a"]', large):
                assert (await client.post(f"{url}/xhr_send", content=body)).status_code == 204
                assert await answer.read(len(body) + 2) == f"a{body}\n".encode()

        async with connect(f"ws://{address}/ws/{url}/websocket", compression=None) as socket:
            assert await socket.recv() == "o"
            await socket.send('["a"]')
            assert await socket.recv() == 'a["a"]'
