# What of this was tried is said in packaging/recipes/README.md.
class Truename < Formula
  desc "Local DNS forwarder and split-horizon resolver that gives true answers"
  homepage "https://truename.example"
  # The sources of the release and their sum.
  url "https://truename.example/truename-0.1.0.tar.gz"
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license any_of: ["MIT", "Apache-2.0"]

  depends_on "rust" => :build
  depends_on :linux

  def install
    system "cargo", "install", *std_cargo_args
    system "cargo", "run", "--locked", "--example", "pages", "--", "pages"
    man5.install Dir["pages/man5/*.5"], Dir["docs/man/*.5"]
    man8.install Dir["pages/man8/*.8"]
    bash_completion.install "pages/bash/truename"
    zsh_completion.install "pages/zsh/_truename"
    fish_completion.install "pages/fish/truename.fish"
    pkgshare.install "config/truename.toml", "systemd"
    doc.install "docs/operations.md"
  end

  def caveats
    <<~EOS
      The units for systemd are in #{opt_pkgshare}/systemd; they run /usr/bin/truename.
      To try it without them: truename run --listen 127.0.0.1:5300
    EOS
  end

  test do
    (testpath/"truename.toml").write <<~EOS
      [[zone]]
      name = "lab.example"
      records = [{ name = "@", type = "A", value = "10.0.0.1" }]
    EOS
    system bin/"truename", "check", testpath/"truename.toml"
    assert_match version.to_s, shell_output("#{bin}/truename --version")
  end
end
