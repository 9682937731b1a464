"""three.js in Chromium as an independent renderer of glTF files, unlit as materials=gltf is.

three.js comes from the npm registry and is kept in the tests' cache.
"""

import base64
import functools
import http.server
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import numpy as np

from page import Page

VERSION = "0.187.0"
PAGE = """<!doctype html><html><head><script type="importmap">
{"imports": {"three": "/three/build/three.module.js", "three/addons/": "/three/examples/jsm/"}}
</script></head><body><canvas id="canvas"></canvas><script type="module">
import * as THREE from 'three';
import { GLTFLoader } from 'three/addons/loaders/GLTFLoader.js';
import { DRACOLoader } from 'three/addons/loaders/DRACOLoader.js';
import { KTX2Loader } from 'three/addons/loaders/KTX2Loader.js';
import { MeshoptDecoder } from 'three/addons/libs/meshopt_decoder.module.js';
const canvas = document.getElementById('canvas');
const renderer = new THREE.WebGLRenderer({canvas, antialias: false, alpha: true,
  preserveDrawingBuffer: true, premultipliedAlpha: false});
const draco = new DRACOLoader().setDecoderPath('/three/examples/jsm/libs/draco/gltf/');
draco.setDecoderConfig({type: 'js'});
const ktx2 = new KTX2Loader().setTranscoderPath('/three/examples/jsm/libs/basis/');
ktx2.detectSupport(renderer);
const loader = new GLTFLoader().setDRACOLoader(draco).setKTX2Loader(ktx2)
  .setMeshoptDecoder(MeshoptDecoder);

function unlit(old, bare) {
  const made = new THREE.MeshBasicMaterial({color: old.color, map: old.map, side: old.side,
    vertexColors: old.vertexColors, alphaTest: old.alphaTest, transparent: old.transparent,
    opacity: old.opacity, depthWrite: old.depthWrite});
  if (bare && !old.vertexColors) made.color.setRGB(0.4, 0.4, 0.4);
  if (made.map) {
    made.map.generateMipmaps = false;
    made.map.minFilter = made.map.magFilter = THREE.LinearFilter;
    made.map.needsUpdate = true;
  }
  return made;
}

window.draw = async (file, size, fov, poses, centre, scale, animation, time) => {
  const gltf = await loader.loadAsync(file);
  gltf.scene.traverse(node => {
    if (!node.isMesh) { node.visible = !(node.isPoints || node.isLine); return; }
    node.frustumCulled = false;
    const at = gltf.parser.associations.get(node) ?? {};
    const primitive = gltf.parser.json.meshes[at.meshes]?.primitives[at.primitives ?? 0];
    node.material = unlit(node.material, primitive && primitive.material === undefined);
  });
  if (animation !== null) {
    const mixer = new THREE.AnimationMixer(gltf.scene);
    const action = mixer.clipAction(gltf.animations[animation]).setLoop(THREE.LoopOnce);
    action.clampWhenFinished = true;
    action.play();
    mixer.setTime(time);
  }
  const group = new THREE.Group(), scene = new THREE.Scene();
  group.scale.setScalar(scale);
  group.position.fromArray(centre).multiplyScalar(-scale);
  group.add(gltf.scene);
  scene.add(group);
  renderer.setPixelRatio(1);
  renderer.setSize(size, size, false);
  const camera = new THREE.PerspectiveCamera(fov, 1, 0.05, 100);
  camera.matrixAutoUpdate = false;
  const gl = renderer.getContext(), out = [];
  for (const pose of poses) for (const alpha of [1, 0]) {
    renderer.setClearColor(0xffffff, alpha);
    camera.matrix.fromArray(pose).transpose();
    camera.updateMatrixWorld(true);
    renderer.render(scene, camera);
    const pixels = new Uint8Array(size * size * 4);
    gl.readPixels(0, 0, size, size, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    let text = '';
    for (let i = 0; i < pixels.length; i += 8192)
      text += String.fromCharCode(...pixels.subarray(i, i + 8192));
    out.push(btoa(text));
  }
  renderer.renderLists.dispose();
  return out;
};
window.ready = true;
</script></body></html>"""


class NoThree(Exception):
    """three.js cannot be had here."""


def three_folder(cache: Path) -> Path:
    """The unpacked npm package. Raises NoThree when npm is missing or the registry is out of
    reach."""
    folder = cache / f"three-{VERSION}"
    if not folder.is_dir():
        npm = shutil.which("npm")
        if npm is None:
            raise NoThree("three.js is fetched by npm, which is not installed")
        work = cache / f"three-{VERSION}.part"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        command = [npm, "pack", f"three@{VERSION}", "--silent"]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise NoThree(f"npm cannot fetch three.js: {done.stderr.strip()[-300:]}")
        with tarfile.open(next(work.glob("*.tgz"))) as archive:
            archive.extractall(work, filter="data")
        (work / "package").rename(folder)
        shutil.rmtree(work)
    return folder


class _Handler(http.server.SimpleHTTPRequestHandler):
    def translate_path(self, path: str) -> str:
        name = path.split("?")[0].lstrip("/")
        if name.startswith("three/"):
            return str(self.server.three / name.removeprefix("three/"))
        return str(self.server.files / name)

    def do_GET(self) -> None:
        if self.path != "/":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def log_message(self, *_: object) -> None:
        pass


class Viewer:
    """Draws the glTF files of one folder."""

    def __init__(self, three: Path, files: Path) -> None:
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.three, self.server.files = three, files
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.page = Page(f"http://127.0.0.1:{self.server.server_port}/", (400, 300))
        self.page.driver.get(self.page.url)
        self.page.wait_until("return window.ready")

    def close(self) -> None:
        self.page.close()
        self.server.shutdown()
        self.server.server_close()

    def draw(
        self, name: str, asset, cameras, animation: int | None = None, time: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Colours over white, float [n, H, W, 3], and the masks, bool [n, H, W]."""
        size = cameras[0].width
        poses = [camera.pose.reshape(-1).tolist() for camera in cameras]
        answer = self.page.run(
            "return await window.draw(...args)", name, size, cameras[0].fov, poses,
            asset.centre.tolist(), asset.scale, animation, time,
        )  # fmt: skip
        pictures = np.stack([np.frombuffer(base64.b64decode(text), np.uint8) for text in answer])
        pictures = pictures.reshape(len(cameras), 2, size, size, 4)[:, :, ::-1]
        return pictures[:, 0, ..., :3] / 255.0, pictures[:, 1, ..., 3] > 127


@functools.cache
def lacking() -> str | None:
    """What is missing for a browser, in words."""
    from page import missing_browser

    return missing_browser()
