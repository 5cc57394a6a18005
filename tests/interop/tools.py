"""The clients as programs: fetches them with their own package managers and builds them, all below target/interop."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading

from world import BUILD, HERE, JAVA_OPENS, LOGBACK, ROOT, Trouble

INSTALLING = threading.Lock()  # package managers share caches; one at a time
FETCH_LIMIT_S = 900


def call(argv, cwd=None, attempts=1):
    try:
        done = subprocess.run([str(word) for word in argv], cwd=cwd, timeout=FETCH_LIMIT_S, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    except FileNotFoundError:
        raise Trouble(f"{argv[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise Trouble(f"{argv[0]} not finished after {FETCH_LIMIT_S} s") from None
    if done.returncode and attempts > 1:
        return call(argv, cwd, attempts - 1)  # registries have bad moments
    if done.returncode:
        raise Trouble(f"{' '.join(str(word) for word in argv[:4])} … failed:\n" + "\n".join(done.stdout.splitlines()[-20:]))


def built(target, sources, build):
    """Runs `build(target)` unless the target was made from these very sources."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    stamp = target.with_name(target.name + ".made-from")
    with INSTALLING:
        if target.exists() and stamp.exists() and stamp.read_text() == digest:
            return target
        stamp.unlink(missing_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        target.unlink(missing_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        print(f"preparing {target.relative_to(BUILD)}", file=sys.stderr, flush=True)
        build(target)
        stamp.write_text(digest)
    return target


def fetched(version, profile, target):
    """The directory of that version's jars."""
    pom = HERE / "java" / "pom.xml"
    fetch = lambda target: call(["mvn", "-q", "-B", "-f", pom, f"-P{profile}", f"-Drocketmq.version={version}",
                                 "dependency:copy-dependencies", f"-DoutputDirectory={target}"], attempts=2)
    return built(BUILD / "jars" / target, [pom], fetch)


def jars(version):
    """Class path of that version: client, mqadmin, servers."""
    return f"{fetched(version, 'server', version)}/*"


def apache(version):
    """The jars of that version's own integration tests, and a class path with what stands in for their bases in front."""
    found, sources = fetched(version, "apache", f"{version}-tests"), sorted((HERE / "java" / "apache").glob("*.java"))
    compile_ = lambda target: call(["javac", "-nowarn", "-d", target, "-cp", f"{found}/*", *sources])
    return found, f"{built(BUILD / 'classes' / f'{version}-tests', sources, compile_)}:{found}/*"


def compiled(version):
    """Our own classes against that version's."""
    class_path, sources = jars(version), sorted((HERE / "java").glob("*.java"))
    compile_ = lambda target: call(["javac", "-nowarn", "-d", target, "-cp", class_path, *sources])
    return built(BUILD / "classes" / version, sources, compile_)


def admin(version, servers):
    """(argv, env) of a JVM that plays mqadmin commands; it takes the name server's address."""
    return (["java", *JAVA_OPENS, "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Duser.home={servers.directory}",
             "-cp", f"{compiled(version)}:{jars(version)}", "Admin"], {**os.environ, **servers.env})


def java(version):
    def command(directory):
        class_path, classes = jars(version), compiled(version)
        home = directory / "home"
        (home / "conf").mkdir(parents=True, exist_ok=True)
        for name in ("logback.xml", "logback_tools.xml", "rmq.tools.logback.xml"):
            (home / "conf" / name).write_text(LOGBACK)
        return (["java", *JAVA_OPENS, "-Xmx768m", f"-Duser.home={home}", f"-Dlogback.configurationFile={home}/conf/logback.xml",
                 "-cp", f"{classes}:{class_path}", "Interop"], {"ROCKETMQ_HOME": str(home)})
    return command


def go(_):
    source = HERE / "go"
    build = lambda target: call(["go", "build", "-o", target, "."], cwd=source, attempts=2)
    return [built(BUILD / "go" / "interop", [source / "go.mod", source / "go.sum", *sorted(source.glob("*.go"))], build)], {}


def python(_):
    requirements = HERE / "python" / "requirements.txt"

    def build(target):
        call([sys.executable, "-m", "venv", target])
        call([target / "bin" / "pip", "install", "-q", "--disable-pip-version-check", "-r", requirements], attempts=2)

    venv = built(BUILD / "venv", [requirements], build)
    return [venv / "bin" / "python", "-u", "-B", HERE / "python" / "interop.py"], {}


def node(_):
    manifest = [HERE / "node" / name for name in ("package.json", "package-lock.json")]

    def build(target):
        target.mkdir()
        for path in manifest:
            shutil.copy(path, target)
        call(["npm", "ci", "--no-audit", "--no-fund"], cwd=target, attempts=2)

    modules = built(BUILD / "node", manifest, build) / "node_modules"
    return ["node", HERE / "node" / "interop.js"], {"NODE_PATH": str(modules)}


# Each answers (argv, env) of a program that takes NAMESRV PREFIX FEATURE… and prints RESULT lines.
CLIENTS = {"java497": java("4.9.7"), "java540": java("5.4.0"), "go": go, "python": python, "node": node}


def keelmq(fresh=False):
    """The release binary, built when it is not there, or from the sources as they are."""
    binary = ROOT / "target" / "release" / "keelmq"
    if fresh or not binary.exists():
        print("building the release binary", file=sys.stderr, flush=True)
        call(["cargo", "build", "--release", "--bin", "keelmq"], cwd=ROOT)
    return binary
