"""The challenge's evaluation: the simulated user, the scores, the leaderboard."""

METHOD_SPECS = """\
  gamt [OPTIONS]       this project, in process; OPTIONS as for 'gamt predict'
  docker:IMAGE         a local image, or a tarball TEAM.tar.gz of 'docker save'
  podman:IMAGE         the same with podman
  apptainer:FILE.sif   the same with apptainer, where there is no docker
  command:CMD          a shell command, run in a folder that holds inputs/ and outputs/
  session:MODULE:FACTORY [KEY=VALUE ...]
                       nnInteractive's session, or any object with its methods, made by a
                       function FACTORY(KEY=VALUE, ...); see docs/peers.md"""
"""What can be evaluated, for people to read."""

REPOSITORY = "junma/CVPR-BiomedSegFM"
"""The challenge's data set on the Hugging Face hub."""
