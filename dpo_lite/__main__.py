from dpo_lite.cli import main

main()
