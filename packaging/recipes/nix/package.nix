# nix-build -E '(import <nixpkgs> { }).callPackage ./package.nix { }'
# What of this was tried is said in packaging/recipes/README.md.
{
  lib,
  rustPlatform,
  installShellFiles,
  systemd,
}:

rustPlatform.buildRustPackage {
  pname = "truename";
  version = "0.1.0";

  src = lib.cleanSource ../../..;
  cargoLock.lockFile = ../../../Cargo.lock;

  nativeBuildInputs = [
    installShellFiles
  ];

  # The tests of upstreams and machines need other servers, network namespaces and root.
  cargoTestFlags = [ "--lib" ];

  postBuild = ''
    cargo run --frozen --example pages -- pages
  '';

  postInstall = ''
    installManPage pages/man5/*.5 pages/man8/*.8 docs/man/*.5
    installShellCompletion --bash pages/bash/truename --zsh pages/zsh/_truename --fish pages/fish/truename.fish
    mkdir -p $out/lib/systemd/system $out/lib/sysusers.d $out/share/doc/truename
    for unit in systemd/*.service systemd/*.socket systemd/*.path; do
      substitute $unit $out/lib/systemd/system/$(basename $unit) \
        --replace-quiet /usr/bin/truename $out/bin/truename \
        --replace-quiet /bin/systemctl ${systemd}/bin/systemctl
    done
    cp systemd/sysusers.conf $out/lib/sysusers.d/truename.conf
    cp config/truename.toml docs/operations.md $out/share/doc/truename
  '';

  meta = {
    description = "Local DNS forwarder and split-horizon resolver that gives true answers and can say why";
    license = with lib.licenses; [
      mit
      asl20
    ];
    platforms = lib.platforms.linux;
    mainProgram = "truename";
  };
}
