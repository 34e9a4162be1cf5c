"""How SeaweedFS is told to serve S3 on loopback, and nothing to anyone without credentials.

Of its four servers only S3 asks for credentials by itself. The others are closed like this: filer and master
serve no HTTP API (`-disableHttp`), the volume server's HTTP asks for tokens signed with keys that only this
process knows, and all gRPC asks for a client certificate. What stays open tells no key and no content: the
status pages of the master (`/`, `/cluster/status`) and of the volume server (`/status`: volumes, free disk).
"""

from __future__ import annotations

import datetime
import random
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOST = "127.0.0.1"

# Below the ports of Ray Serve's replicas (from 30000) and those that the system gives to outgoing connections, which
# could take one before it is bound.
_PORT_RANGE = range(20000, 30000)
_VOLUME_SIZE_LIMIT_MB = 1024  # a volume is copied to reclaim the space of deleted objects
_VOLUMES = 10000  # each bucket takes seven; empty ones take no space


@dataclass(frozen=True)
class Ports:
    """TCP ports on loopback, all but `s3` used by SeaweedFS among itself."""

    s3: int
    s3_grpc: int
    master: int
    master_grpc: int
    volume: int
    volume_grpc: int
    filer: int
    filer_grpc: int

    @classmethod
    def choose(cls) -> Ports:
        """Ports that are free now."""
        candidates = iter(random.sample(_PORT_RANGE, len(_PORT_RANGE)))
        free = (port for port in candidates if _is_free(port))
        return cls(*(next(free) for _ in range(8)))

    def are_free(self) -> bool:
        """Whether all of them can be bound."""
        return all(map(_is_free, asdict(self).values()))

    def remove_sockets(self) -> None:
        """Remove the Unix sockets that SeaweedFS leaves in `/tmp`, wherever it is told to put temporary files."""
        for server, port in asdict(self).items():
            if server.endswith("_grpc"):
                name = f"seaweedfs-{server.replace('_', '-')}-{port}.sock"
                Path("/tmp", name).unlink(missing_ok=True)  # noqa: S108 - the folder is fixed by SeaweedFS


def command(weed: Path, data: Path, ports: Ports) -> list[str]:
    """The command line; run it in a directory that has a `tmp` folder.

    Args:
        weed: the SeaweedFS binary.
        data: absolute path of the folder for everything that is stored.
        ports: where to listen.
    """
    return [
        str(weed),
        "-logtostderr",
        "server",
        f"-dir={data}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        "-disableHttp",
        "-master.peers=none",  # alone: no election to wait for (21 s after a restart)
        "-master.telemetry=false",
        f"-master.volumeSizeLimitMB={_VOLUME_SIZE_LIMIT_MB}",
        f"-master.port={ports.master}",
        f"-master.port.grpc={ports.master_grpc}",
        f"-volume.max={_VOLUMES}",
        "-volume.preStopSeconds=0",
        f"-volume.port={ports.volume}",
        f"-volume.port.grpc={ports.volume_grpc}",
        "-filer",
        f"-filer.port={ports.filer}",
        f"-filer.port.grpc={ports.filer_grpc}",
        "-filer.localSocket=tmp/filer.sock",  # relative: the path of a Unix socket has at most 107 bytes
        "-s3",
        f"-s3.port={ports.s3}",
        f"-s3.port.grpc={ports.s3_grpc}",
        "-s3.localSocket=tmp/s3.sock",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]


def environment(home: Path, access_key: str, secret_key: str) -> dict[str, str]:
    """The whole environment: credentials of S3, fresh internal keys, and no setting of the user's own.

    Args:
        home: folder with a `tmp` folder; a fresh certificate for the internal gRPC is written to it.
        access_key: id of the one S3 user.
        secret_key: its secret.
    """
    certificate, key = _write_certificate(home)
    names = ("MASTER", "VOLUME", "FILER", "S3", "CLIENT")
    return {
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "GOGC": "40",  # half the memory (0.4 GB while it takes large objects) at the same speed
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "WEED_JWT_SIGNING_KEY": secrets.token_hex(),
        "WEED_JWT_SIGNING_READ_KEY": secrets.token_hex(),
        "WEED_JWT_FILER_SIGNING_KEY": secrets.token_hex(),
        "WEED_JWT_FILER_SIGNING_READ_KEY": secrets.token_hex(),
        "WEED_GRPC_CA": str(certificate),
        **{f"WEED_GRPC_{name}_CERT": str(certificate) for name in names},
        **{f"WEED_GRPC_{name}_KEY": str(key) for name in names},
    }


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what closed connections leave is no obstacle
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _write_certificate(home: Path) -> tuple[Path, Path]:
    """One self-signed certificate that is authority, server and client: who lacks its key is refused."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "t3d embedded store")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=36500))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = home / "grpc.crt", home / "grpc.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].touch(mode=0o600)
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
