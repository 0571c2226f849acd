# scripts/make-formula builds the archive and fills in its URL and hash.
class Boot2podman < Formula
  include Language::Python::Virtualenv

  desc "Container hosts as virtual machines under QEMU, with Podman inside"
  homepage "https://boot2podman.github.io/"
  url "@URL@"
  sha256 "@SHA256@"
  license "Apache-2.0"

  depends_on "pkgconf" => :build
  depends_on "cffi"
  depends_on "cryptography"
  depends_on "libsodium"
  depends_on "python@3.14"
  depends_on "qemu"
  depends_on "sequoia-sqv" # checks images' signatures; macOS has no program that does

  def python3
    "python3.14"
  end

  # The archive has every other dependency in vendor/: nothing is fetched.
  def install
    virtualenv_create(libexec, python3, system_site_packages: true)
    ENV["SODIUM_INSTALL"] = "system"
    pip = [
      python3, "-m", "pip", "--python=#{libexec}/bin/python", "install", "--verbose",
      "--no-index", "--find-links=#{buildpath}/vendor", "--no-build-isolation"
    ]
    system(*pip, "--upgrade", "setuptools", "hatchling", "click")
    system(*pip, buildpath)
    %w[machine podman-machine].each do |name|
      bin.install_symlink libexec/"bin/#{name}"
      generate_completions_from_executable(bin/name, shell_parameter_format: :click)
    end
    man1.install_symlink Dir[libexec/"share/man/man1/*.1"]
  end

  service do
    run [opt_bin/"machine", "start", "--foreground", "--no-info"]
    environment_variables PATH: std_service_path_env
    process_type :interactive
    log_path var/"log/boot2podman.log"
    error_log_path var/"log/boot2podman.log"
  end

  def caveats
    <<~EOS
      The service starts the machine that `machine init` makes without a name;
      `machine autostart enable NAME` has any other start at login.
    EOS
  end

  test do
    ENV["MACHINE_HOME"] = (testpath/"machines").to_s
    assert_match version.to_s, shell_output("#{bin}/machine --version")
    system bin/"machine", "init", "--quiet", "--image", "/dev/null", "--disk-size", "1", "box"
    assert_equal "stopped\n", shell_output("#{bin}/machine status box", 3)
    assert_path_exists testpath/"machines/data/machines/box/disk.qcow2"
    assert_match "core", (testpath/"machines/data/machines/box/config.ign").read
    checks = shell_output("#{bin}/machine doctor --format '{{.Name}} {{.Status}}' || true")
    assert_match "signatures ok", checks
    system bin/"machine", "rm", "--force", "box"
    assert_empty shell_output("#{bin}/machine list --quiet")
  end
end
