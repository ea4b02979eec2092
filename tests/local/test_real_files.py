"""What a stack of real servers is made of: a Java that will do, files that are what was pinned."""

import io
import os
import tarfile
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from sealtrail import resources
from sealtrail.cli.main import run
from sealtrail.errors import ConfigurationError, UnavailableError
from sealtrail_local.real import fetch, java


def jdk(folder: Path, version: str) -> Path:
    """Looks like a JDK to whoever only looks at it."""
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "java"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return program


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Java but that of the test's own environment."""
    monkeypatch.setattr(java, "_PLACES", ("~/jvm/*",))


@pytest.mark.usefixtures("nowhere")
def test_the_default_is_passed_over_when_it_is_too_old(tmp_path: Path):
    old = jdk(tmp_path / "jvm" / "old", "17.0.15")
    jdk(tmp_path / "jvm" / "middle", "21.0.1")
    new = jdk(tmp_path / "jvm" / "new", "25.0.3")
    environ = {"HOME": str(tmp_path), "PATH": str(old.parent)}
    assert java.find(17, "Kafka", environ) == old
    assert java.find(21, "Apicurio", environ) == new
    # Whoever sets JAVA_HOME has chosen.
    chosen = {**environ, "JAVA_HOME": str(tmp_path / "jvm" / "middle")}
    assert java.find(17, "Kafka", chosen) == tmp_path / "jvm" / "middle" / "bin" / "java"


@pytest.mark.usefixtures("nowhere")
def test_a_java_that_is_missing_or_too_old_is_named(tmp_path: Path):
    with pytest.raises(UnavailableError, match="Apicurio needs Java 21 or later; found: no Java"):
        java.find(21, "Apicurio", {"HOME": str(tmp_path), "PATH": ""})
    old = jdk(tmp_path / "jvm" / "old", "1.8.0_402")
    broken = tmp_path / "jvm" / "broken" / "bin"
    broken.mkdir(parents=True)
    with pytest.raises(UnavailableError, match=f"found: Java 8 in {old.parents[1]}$") as caught:
        java.find(21, "Apicurio", {"HOME": str(tmp_path), "PATH": str(broken)})
    assert "JDK of version 21" in caught.value.hint


def test_a_missing_maven_is_named(tmp_path: Path):
    with pytest.raises(UnavailableError, match=r"Maven \(mvn\) is not installed"):
        java.maven("Kafka", {"PATH": str(tmp_path)})


def test_embedded_brokers_are_never_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("SEALTRAIL_STATE_DIR", str(tmp_path))
    assert run(["local", "up", "--embedded", "--brokers", "3"]) == 2
    assert "is for --real" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def maven(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A Maven that does what the test says; $out is the wanted folder."""
    program = folder / "mvn"
    program.write_text(
        "#!/bin/sh\nfor word; do case $word in -DoutputDirectory=*) "
        f"out=${{word#*=}};; esac; done\n{body}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_maven_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    maven(tmp_path, monkeypatch, "echo '[ERROR] no route'; exit 1")
    with pytest.raises(UnavailableError, match=r"did not get Apache Kafka: \[ERROR\] no route"):
        fetch.fetched("kafka", tmp_path / "cache", print)


def test_what_was_not_pinned_is_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    maven(tmp_path, monkeypatch, 'echo x >"$out/evil.jar"; echo y >"$out/kafka-raft-4.4.0.jar"')
    with pytest.raises(ConfigurationError) as caught:
        fetch.fetched("kafka", tmp_path / "cache", print)
    assert "kafka-raft-4.4.0.jar have another SHA-256 than was pinned" in caught.value.message
    assert "evil.jar were never pinned" in caught.value.message
    assert "are missing" in caught.value.message
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["kafka.lock"]


def test_an_archive_is_checked_unpacked_and_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    archive = tmp_path / "app.tar.gz"
    with tarfile.open(archive, "w:gz") as content:
        member = tarfile.TarInfo("quarkus-run.jar")
        member.size = 3
        content.addfile(member, io.BytesIO(b"jar"))
    (tmp_path / "SHA256SUMS").write_text(f"{fetch._sha256(archive)}  app.tar.gz\n")
    (tmp_path / "pom.xml").touch()
    monkeypatch.setattr(resources, "path", lambda _, name: tmp_path / name)
    maven(tmp_path, monkeypatch, f'cp {archive} "$out"; echo >>{tmp_path}/calls')
    said: list[str] = []
    for _ in range(2):
        folder = fetch.fetched("registry", tmp_path / "cache", said.append)
        assert [file.name for file in folder.iterdir()] == ["quarkus-run.jar"]
    assert (tmp_path / "calls").read_text() == "\n"
    assert len(said) == 1
    # Another list is another folder.
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  app.tar.gz\n")
    with pytest.raises(ConfigurationError, match="another SHA-256"):
        fetch.fetched("registry", tmp_path / "cache", said.append)


@pytest.mark.parametrize("server", ["kafka", "registry"])
def test_each_pinned_version_has_a_sum(server: fetch.Server):
    space = "{http://maven.apache.org/POM/4.0.0}"
    pom = ET.parse(resources.path(server, "pom.xml"))  # noqa: S314 - our own
    sums = fetch.pinned(resources.path(server, fetch.SUMS).read_text())
    wanted = pom.findall(f"./{space}dependencies/{space}dependency")
    assert wanted
    for dependency in wanted:
        name, version = (dependency.findtext(f"{space}{tag}") for tag in ("artifactId", "version"))
        assert any(file.startswith(f"{name}-{version}") for file in sums), name
    assert all(len(digest) == 64 for digest in sums.values())
