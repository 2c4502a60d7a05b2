# The smallest thing that Packer builds: a file. Take a builder of yours in its place.
variable "vm_name" {
  type    = string
  default = "image"
}

variable "greeting" {
  type    = string
  default = "hello"
}

source "file" "image" {
  content = "${var.greeting} from ${var.vm_name}\n"
  # Relative, so it is moved out of the sandbox's directory and stays when the sandbox goes.
  target = "output/${var.vm_name}.img"
}

build {
  sources = ["source.file.image"]

  provisioner "shell-local" {
    inline = ["echo building ${var.vm_name}"]
  }
}
