"""``python -m requestor_sdk`` is the command ``requestor-sdk`` of this very Python."""

from requestor_sdk.cli import main

if __name__ == "__main__":
    main(prog_name="requestor-sdk")
